/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A guest of 512 bytes: a boot sector that idles, obeys the ACPI power button, and obeys single characters on its first
 * serial port. What it does not know it echoes, so '.' asks whether it is up. Expects QEMU's "pc" machine.
 *
 *   p  power off                    c  panic (the pvpanic device)
 *   r  reset (keyboard controller)  d  dirty 512 KiB for ever: a slow live migration
 *   t  triple fault                 h  hang, deaf to the power button
 *
 * as --32 guest.S -o guest.o && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o guest.bin guest.o
 */
.set	COM1, 0x3f8
.set	PM_STATUS, 0x600	/* PIIX4 power management, where SeaBIOS puts it */
.set	PM_CONTROL, 0x604
.set	POWER_BUTTON, 0x100
.set	SLEEP_S5, 0x2000
.set	PVPANIC, 0x505

.code16
.globl	_start
_start:	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %ss
	movw	$0x7c00, %sp

	movw	$(COM1 + 3), %dx	/* 115200 8n1, with FIFO */
	movb	$0x80, %al
	outb	%al, %dx
	movw	$COM1, %dx
	movb	$1, %al
	outb	%al, %dx
	movw	$(COM1 + 1), %dx
	movb	$0, %al
	outb	%al, %dx
	movw	$(COM1 + 3), %dx
	movb	$3, %al
	outb	%al, %dx
	movw	$(COM1 + 2), %dx
	movb	$0xc7, %al
	outb	%al, %dx

	movw	$(PM_STATUS + 2), %dx	/* the power button sets its status bit */
	movw	$POWER_BUTTON, %ax
	outw	%ax, %dx
	sti

idle:	hlt				/* until the timer's next tick */
	call	button
	movw	$(COM1 + 5), %dx
	inb	%dx, %al
	testb	$1, %al
	jz	idle
	movw	$COM1, %dx
	inb	%dx, %al
	cmpb	$'p', %al
	je	off
	cmpb	$'r', %al
	je	reset
	cmpb	$'t', %al
	je	triple
	cmpb	$'c', %al
	je	panic
	cmpb	$'d', %al
	je	dirty
	cmpb	$'h', %al
	je	hang
	outb	%al, %dx
	jmp	idle

button:	movw	$PM_STATUS, %dx		/* returns unless it was pressed */
	inw	%dx, %ax
	testw	$POWER_BUTTON, %ax
	jnz	off
	ret
off:	movw	$PM_CONTROL, %dx
	movw	$SLEEP_S5, %ax
	outw	%ax, %dx
	jmp	off
reset:	movb	$0xfe, %al
	outb	%al, $0x64
	jmp	idle
triple:	lidt	nothing
	int3
panic:	movw	$PVPANIC, %dx
	movb	$1, %al
	outb	%al, %dx
	jmp	idle
dirty:	movw	$0x1000, %bx
next:	movw	%bx, %es
	incb	%es:0
	addw	$0x100, %bx
	cmpw	$0x9000, %bx
	jb	next
	call	button
	jmp	dirty
hang:	cli
	hlt
	jmp	hang

nothing:
	.word	0, 0, 0

.org	510
	.word	0xaa55
