/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A guest of 512 bytes: a boot sector that idles, obeys the ACPI power button, and obeys single characters on its first
 * serial port. What it does not know it echoes, so '.' asks whether it is up. Expects QEMU's "pc" machine.
 *
 *   p  power off                    c  panic (the pvpanic device)
 *   r  reset (keyboard controller)  d  dirty 512 KiB for ever: a slow live migration
 *   t  triple fault                 h  hang, deaf to the power button
 *   s  suspend to memory            l  a crash kernel was loaded (pvpanic)
 *   z  suspend to disk              w  let the watchdog (ib700) expire
 *   k  set the clock                b  report a size of 16 MiB to the balloon, at PCI slot 10
 *   i  write to the second disk     o  refuse to give back the memory in slot 0
 *   a  open port 1 of the virtio-serial at PCI slot 11, as a guest agent does
 *
 * as --32 guest.S -o guest.o && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o guest.bin guest.o
 */
.set	COM1, 0x3f8
.set	PM_STATUS, 0x600	/* PIIX4 power management, where SeaBIOS puts it */
.set	PM_CONTROL, 0x604
.set	POWER_BUTTON, 0x100
.set	SLEEP_S5, 0x2000
.set	SLEEP_S3, 0x2400
.set	SLEEP_S4, 0x2800
.set	PVPANIC, 0x505
.set	WATCHDOG, 0x443
.set	MEMORY_HOTPLUG, 0xa00

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
	movw	$commands, %si		/* a character, and what it jumps to */
1:	cmpb	%al, (%si)
	je	2f
	addw	$3, %si
	cmpb	$0, (%si)
	jne	1b
	outb	%al, %dx
	jmp	idle
2:	jmp	*1(%si)

button:	movw	$PM_STATUS, %dx		/* returns unless it was pressed */
	inw	%dx, %ax
	testw	$POWER_BUTTON, %ax
	jnz	off
	ret
off:	call	1f
	jmp	off
1:	movw	$SLEEP_S5, %ax
sleep:	movw	$PM_CONTROL, %dx
	outw	%ax, %dx
	ret
memory:	movw	$SLEEP_S3, %ax
	call	sleep
	jmp	idle
disk:	movw	$SLEEP_S4, %ax
	call	sleep
	jmp	idle
reset:	movb	$0xfe, %al
	outb	%al, $0x64
	jmp	idle
triple:	lidt	nothing
	int3
panic:	movb	$1, %al
1:	movw	$PVPANIC, %dx
	outb	%al, %dx
	jmp	idle
loaded:	movb	$2, %al
	jmp	1b
expire:	movw	$WATCHDOG, %dx
	movb	$0xf, %al		/* at once */
	outb	%al, %dx
	jmp	idle
clock:	movb	$4, %al			/* the hour */
	outb	%al, $0x70
	movb	$1, %al
	outb	%al, $0x71
	jmp	idle
write:	movw	$0x0301, %ax		/* a sector */
	movw	$0x7c00, %bx
	movw	$0x0001, %cx
	movw	$0x0081, %dx
	int	$0x13
	jmp	idle
balloon:
	movw	$10 << 11, %ax
	call	virtio
	leaw	24(%bx), %dx
	movl	$4096, %eax		/* pages that it has taken */
	outl	%eax, %dx
	jmp	idle
agent:	movw	$11 << 11, %ax
	call	virtio
	leaw	18(%bx), %dx		/* reset, then "a driver is there" */
	movb	$0, %al
	outb	%al, %dx
	movb	$3, %al
	outb	%al, %dx
	leaw	4(%bx), %dx		/* several ports */
	movl	$2, %eax
	outl	%eax, %dx
	leaw	14(%bx), %dx		/* queue 3 takes orders; it is at 0x20000, what is available behind its descriptors */
	movw	$3, %ax
	outw	%ax, %dx
	leaw	12(%bx), %dx
	inw	%dx, %ax
	shlw	$4, %ax
	movw	%ax, %di
	leaw	8(%bx), %dx
	movl	$0x20, %eax
	outl	%eax, %dx
	movw	$0x2000, %ax
	movw	%ax, %es
	xorl	%eax, %eax
	movl	$order, %es:0		/* a descriptor: address, length */
	movl	%eax, %es:4
	movl	$8, %es:8
	movl	%eax, %es:12
	movl	$0x10000, %es:(%di)	/* one is available: the first */
	movw	%ax, %es:4(%di)
	leaw	18(%bx), %dx
	movb	$7, %al
	outb	%al, %dx
	leaw	16(%bx), %dx
	movw	$3, %ax
	outw	%ax, %dx
	jmp	idle
virtio:	movw	$0xcf8, %dx		/* bx: the legacy registers of the device in a slot, its first base address */
	movzwl	%ax, %eax
	orl	$0x80000010, %eax
	outl	%eax, %dx
	movw	$0xcfc, %dx
	inl	%dx, %eax
	andb	$0xfc, %al
	movw	%ax, %bx
	ret
refuse:	movw	$MEMORY_HOTPLUG, %dx	/* as _OST does: the slot, an ejection's, failed */
	xorl	%eax, %eax
	outl	%eax, %dx
	addw	$4, %dx
	movb	$3, %al
	outl	%eax, %dx
	addw	$4, %dx
	movb	$1, %al
	outl	%eax, %dx
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

order:	.long	1			/* port 1 */
	.word	6, 1			/* is open */

.macro	command character, where
	.byte	\character
	.word	\where
.endm
commands:
	command 'p', off
	command 'r', reset
	command 't', triple
	command 'c', panic
	command 'd', dirty
	command 'h', hang
	command 's', memory
	command 'z', disk
	command 'l', loaded
	command 'w', expire
	command 'k', clock
	command 'i', write
	command 'b', balloon
	command 'o', refuse
	command 'a', agent
	.byte	0

.org	510
	.word	0xaa55
