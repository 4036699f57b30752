/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * guest.S - a guest in one sector, for t-migrate.sh. It boots from its disk and writes, for ever, the numbers 1,
 * 2, 3 ... to sector 2048 + number % 256, each filling its sector; before that it reads what it wrote
 * 100 numbers ago. So the 256 sectors hold 256 numbers in a row, or a write was lost, or an
 * old one landed late. The serial line says 'b' at the start, '.' every 256 numbers, 'E' after a
 * failed read or write and 'D' if what was read is not what was written.
 *
 *   as --32 -o guest.o guest.S && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o guest.bin guest.o
 */
	.code16
	.globl _start
	.set COM1, 0x3f8
	.set OUT, 0x8000
	.set IN, 0x9000
	.set AGO, 100

_start:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$0x7c00, %sp
	sti
	cld
	movb	%dl, drive
	movb	$'b', %al
	call	say

next:
	incl	number
	movl	number, %eax
	cmpl	$AGO, %eax
	jbe	write
	subl	$AGO, %eax
	movl	%eax, %ebx
	movw	$IN, buffer
	movb	$0x42, %ah
	call	transfer
	movw	$IN, %di
	movw	$128, %cx
	movl	%ebx, %eax
	repe scasl
	je	write
	movb	$'D', %al
	call	say

write:
	movw	$OUT, %di
	movw	$128, %cx
	movl	number, %eax
	rep stosl
	movl	number, %ebx
	movw	$OUT, buffer
	movb	$0x43, %ah
	call	transfer
	testl	$255, number
	jnz	next
	movb	$'.', %al
	call	say
	jmp	next

/* transfer: one sector, that of number ebx; ah: 0x42 reads, 0x43 writes (BIOS, Enhanced Disk Drive) */
transfer:
	movl	%ebx, %ecx
	andl	$255, %ecx
	addl	$2048, %ecx
	movl	%ecx, sector
	movw	$packet, %si
	movb	drive, %dl
	xorb	%al, %al
	pushl	%ebx
	int	$0x13
	popl	%ebx
	jnc	1f
	movb	$'E', %al
	call	say
1:	ret

say:
	movw	$COM1, %dx
	outb	%al, %dx
	ret

drive:	.byte	0
	.balign	4
number:	.long	0
packet:	.byte	16, 0
	.word	1
buffer:	.word	0, 0
sector:	.long	0, 0

	.org	510
	.word	0xaa55
