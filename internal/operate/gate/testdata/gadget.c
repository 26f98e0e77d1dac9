/* What most servers have somewhere in their code, and a small program has not: "pop rax;
 * ret". Before the libraries are there system calls are made by way of it then, and else by
 * way of the dynamic linker's rt_sigreturn(2). */
__asm__(".text\n\t.byte 0x58, 0xc3");
