#include "textflag.h"

// pie_entry is where a program begins that is linked with -E pie_entry: before the Go
// runtime's own entry, which it goes on to. There is no stack of Go's yet, no thread
// state and no other thread; at SP stand the number of arguments and pointers to them
// (System V ABI, AMD64 supplement, 3.4.1 "Initial Stack and Register State").
//
// It does what init does in a program that is linked in the ordinary way, and nothing
// where a system call refuses: of the arguments, "insert", "remove" or "plan" must be
// the first. Eight bytes may be read at any argument, for the program's file name and a
// pointer's size of zeros follow the last string (execve(2), fs/binfmt_elf.c).
TEXT pie_entry(SB), NOSPLIT|NOFRAME, $0
	CMPQ 0(SP), $2
	JLT  begin
	MOVQ 16(SP), BX
	MOVQ 0(BX), AX
	MOVQ $0x00ffffffffffffff, CX // seven bytes: six letters and the end
	ANDQ AX, CX
	MOVQ $0x0000747265736e69, DX // "insert"
	CMPQ CX, DX
	JEQ  beside
	MOVQ $0x000065766f6d6572, DX // "remove"
	CMPQ CX, DX
	JEQ  beside
	MOVQ $0x000000ffffffffff, CX // five bytes
	ANDQ AX, CX
	MOVQ $0x000000006e616c70, DX // "plan"
	CMPQ CX, DX
	JNE  begin

beside:
	MOVQ $204, AX // sched_getaffinity(0, 128, before)
	XORL DI, DI
	MOVL $128, SI
	LEAQ ·before(SB), DX
	SYSCALL
	TESTQ AX, AX
	JLE  forget
	SUBQ $128, SP // a set of CPUs, with the current one in it
	MOVQ $309, AX // getcpu(SP, nil, nil)
	MOVQ SP, DI
	XORL SI, SI
	XORL DX, DX
	SYSCALL
	MOVL 0(SP), BX
	TESTQ AX, AX
	JNE  widen
	CMPL BX, $1024
	JAE  widen
	XORL AX, AX
	MOVL $16, CX
	MOVQ SP, DI
	CLD
	REP; STOSQ
	MOVL BX, CX
	SHRL $6, CX
	BTSQ BX, AX // modulo 64
	MOVQ AX, 0(SP)(CX*8)
	MOVQ $203, AX // sched_setaffinity(0, 128, SP)
	XORL DI, DI
	MOVL $128, SI
	MOVQ SP, DX
	SYSCALL
	ADDQ $128, SP
	TESTQ AX, AX
	JEQ  begin
	JMP  forget

widen:
	ADDQ $128, SP

forget: // init tries again
	XORL AX, AX
	MOVL $16, CX
	LEAQ ·before(SB), DI
	CLD
	REP; STOSQ

begin:
	JMP _rt0_amd64_linux(SB)
