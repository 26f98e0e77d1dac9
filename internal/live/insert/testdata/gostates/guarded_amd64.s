#include "textflag.h"

// The bytes of guarded.h, called as C calls it: n in EDI, the result in EAX.
TEXT guarded<>(SB), NOSPLIT|NOFRAME, $0-0
	BYTE $0xf3; BYTE $0x0f; BYTE $0x1e; BYTE $0xfa             // endbr64
	BYTE $0x55                                                 // push %rbp
	BYTE $0x48; BYTE $0x89; BYTE $0xe5                         // mov %rsp,%rbp
	BYTE $0x48; BYTE $0x83; BYTE $0xec; BYTE $0x10             // sub $16,%rsp
	BYTE $0x6b; BYTE $0xc7; BYTE $0x02                         // imul $2,%edi,%eax
	BYTE $0x83; BYTE $0xc0; BYTE $0x01                         // add $1,%eax
	BYTE $0xc9; BYTE $0xc3                                     // leave; ret

// func guarded(n int32) int32
TEXT ·guarded(SB), NOSPLIT, $32-12
	MOVL n+0(FP), DI
	CALL guarded<>(SB)
	MOVL AX, ret+8(FP)
	RET

// func guardedAddr() uintptr
TEXT ·guardedAddr(SB), NOSPLIT, $0-8
	LEAQ guarded<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET
