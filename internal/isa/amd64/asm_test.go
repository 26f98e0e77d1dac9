package amd64

import (
	"bytes"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/patch-integration-engine/pie/internal/address"
)

// asmTable: what the assembler is to emit, as bytes and as text, side by side.
var asmTable = []struct {
	hex, text string
	emit      func(a *Asm)
}{
	{"48 89 d8", "mov rax, rbx", func(a *Asm) { a.Mov(8, RAX, RBX) }},
	{"45 89 f9", "mov r9d, r15d", func(a *Asm) { a.Mov(4, R9, R15) }},
	{"66 41 89 c8", "mov r8w, cx", func(a *Asm) { a.Mov(2, R8, RCX) }},
	{"44 88 d6", "mov sil, r10b", func(a *Asm) { a.Mov(1, RSI, R10) }},
	{"88 d3", "mov bl, dl", func(a *Asm) { a.Mov(1, RBX, RDX) }},
	{"48 8b 0c 24", "mov rcx, [rsp]", func(a *Asm) { a.Load(8, RCX, At(RSP, 0)) }},
	{"4d 8b 64 24 08", "mov r12, [r12+8]", func(a *Asm) { a.Load(8, R12, At(R12, 8)) }},
	{"8b 45 00", "mov eax, [rbp]", func(a *Asm) { a.Load(4, RAX, At(RBP, 0)) }},
	{"41 8b 45 00", "mov eax, [r13]", func(a *Asm) { a.Load(4, RAX, At(R13, 0)) }},
	{"66 41 8b 50 80", "mov dx, [r8-128]", func(a *Asm) { a.Load(2, RDX, At(R8, -128)) }},
	{"41 8a b9 80 00 00 00", "mov dil, [r9+128]", func(a *Asm) { a.Load(1, RDI, At(R9, 128)) }},
	{"48 8b 44 cb 10", "mov rax, [rbx+rcx*8+16]", func(a *Asm) { a.Load(8, RAX, Indexed(RBX, RCX, 8, 16)) }},
	{"4f 8b 7c b5 00", "mov r15, [r13+r14*4]", func(a *Asm) { a.Load(8, R15, Indexed(R13, R14, 4, 0)) }},
	{"4e 8b 14 4d 78 56 34 12", "mov r10, [r9*2+0x12345678]", func(a *Asm) { a.Load(8, R10, Indexed(NoReg, R9, 2, 0x12345678)) }},
	{"64 48 8b 04 25 10 00 00 00", "mov rax, fs:[0x10]", func(a *Asm) { a.Load(8, RAX, FSAt(NoReg, 0x10)) }},
	{"64 c7 41 fc 07 00 00 00", "mov dword ptr fs:[rcx-4], 7", func(a *Asm) { a.StoreImm(4, FSAt(RCX, -4), 7) }},
	{"4d 89 1b", "mov [r11], r11", func(a *Asm) { a.Store(8, At(R11, 0), R11) }},
	{"44 89 84 24 00 01 00 00", "mov [rsp+0x100], r8d", func(a *Asm) { a.Store(4, At(RSP, 0x100), R8) }},
	{"40 88 37", "mov [rdi], sil", func(a *Asm) { a.Store(1, At(RDI, 0), RSI) }},
	{"66 44 89 48 01", "mov [rax+1], r9w", func(a *Asm) { a.Store(2, At(RAX, 1), R9) }},
	{"c6 45 ff 7f", "mov byte ptr [rbp-1], 0x7f", func(a *Asm) { a.StoreImm(1, At(RBP, -1), 0x7f) }},
	{"66 c7 00 34 12", "mov word ptr [rax], 0x1234", func(a *Asm) { a.StoreImm(2, At(RAX, 0), 0x1234) }},
	{"41 c7 46 04 ff ff ff ff", "mov dword ptr [r14+4], -1", func(a *Asm) { a.StoreImm(4, At(R14, 4), -1) }},
	{"48 c7 44 24 08 fe ff ff ff", "mov qword ptr [rsp+8], -2", func(a *Asm) { a.StoreImm(8, At(RSP, 8), -2) }},
	{"b9 05 00 00 00", "mov ecx, 5", func(a *Asm) { a.MovImm(RCX, 5) }},
	{"41 b9 fe ff ff ff", "mov r9d, 0xfffffffe", func(a *Asm) { a.MovImm(R9, 0xfffffffe) }},
	{"48 c7 c2 ff ff ff ff", "mov rdx, -1", func(a *Asm) { a.MovImm(RDX, -1) }},
	{"49 bf 88 77 66 55 44 33 22 11", "movabs r15, 0x1122334455667788", func(a *Asm) { a.MovImm(R15, 0x1122334455667788) }},
	{"48 b8 78 88 99 aa bb cc dd ee", "movabs rax, -0x1122334455667788", func(a *Asm) { a.MovImm(RAX, -0x1122334455667788) }},
	{"0f b6 c1", "movzx eax, cl", func(a *Asm) { a.MovZX(1, RAX, RCX) }},
	{"40 0f b6 df", "movzx ebx, dil", func(a *Asm) { a.MovZX(1, RBX, RDI) }},
	{"45 0f b7 c1", "movzx r8d, r9w", func(a *Asm) { a.MovZX(2, R8, R9) }},
	{"89 db", "mov ebx, ebx", func(a *Asm) { a.MovZX(4, RBX, RBX) }},
	{"48 0f be c1", "movsx rax, cl", func(a *Asm) { a.MovSX(8, 1, RAX, RCX) }},
	{"40 0f be f6", "movsx esi, sil", func(a *Asm) { a.MovSX(4, 1, RSI, RSI) }},
	{"4c 0f bf da", "movsx r11, dx", func(a *Asm) { a.MovSX(8, 2, R11, RDX) }},
	{"49 63 c8", "movsxd rcx, r8d", func(a *Asm) { a.MovSX(8, 4, RCX, R8) }},
	{"0f b6 57 03", "movzx edx, byte ptr [rdi+3]", func(a *Asm) { a.LoadZX(1, RDX, At(RDI, 3)) }},
	{"0f b6 3e", "movzx edi, byte ptr [rsi]", func(a *Asm) { a.LoadZX(1, RDI, At(RSI, 0)) }},
	{"45 0f b7 0a", "movzx r9d, word ptr [r10]", func(a *Asm) { a.LoadZX(2, R9, At(R10, 0)) }},
	{"48 0f be 44 24 01", "movsx rax, byte ptr [rsp+1]", func(a *Asm) { a.LoadSX(1, RAX, At(RSP, 1)) }},
	{"4c 0f bf 03", "movsx r8, word ptr [rbx]", func(a *Asm) { a.LoadSX(2, R8, At(RBX, 0)) }},
	{"48 63 7f f8", "movsxd rdi, dword ptr [rdi-8]", func(a *Asm) { a.LoadSX(4, RDI, At(RDI, -8)) }},
	{"48 8d 44 24 c0", "lea rax, [rsp-64]", func(a *Asm) { a.Lea(RAX, At(RSP, -64)) }},
	{"4f 8d 6c 2d 00", "lea r13, [r13+r13*1]", func(a *Asm) { a.Lea(R13, Indexed(R13, R13, 1, 0)) }},
	{"48 8d 64 24 30", "lea rsp, [rsp+48]", func(a *Asm) { a.Lea(RSP, At(RSP, 48)) }},
	{"48 01 d1", "add rcx, rdx", func(a *Asm) { a.Op(Add, 8, RCX, RDX) }},
	{"41 09 c0", "or r8d, eax", func(a *Asm) { a.Op(Or, 4, R8, RAX) }},
	{"4c 11 fb", "adc rbx, r15", func(a *Asm) { a.Op(Adc, 8, RBX, R15) }},
	{"19 c8", "sbb eax, ecx", func(a *Asm) { a.Op(Sbb, 4, RAX, RCX) }},
	{"66 45 21 d1", "and r9w, r10w", func(a *Asm) { a.Op(And, 2, R9, R10) }},
	{"40 28 fe", "sub sil, dil", func(a *Asm) { a.Op(Sub, 1, RSI, RDI) }},
	{"31 d2", "xor edx, edx", func(a *Asm) { a.Op(Xor, 4, RDX, RDX) }},
	{"4d 39 ec", "cmp r12, r13", func(a *Asm) { a.Op(Cmp, 8, R12, R13) }},
	{"48 03 47 08", "add rax, [rdi+8]", func(a *Asm) { a.OpLoad(Add, 8, RAX, At(RDI, 8)) }},
	{"45 3a 08", "cmp r9b, [r8]", func(a *Asm) { a.OpLoad(Cmp, 1, R9, At(R8, 0)) }},
	{"48 29 0c 24", "sub [rsp], rcx", func(a *Asm) { a.OpStore(Sub, 8, At(RSP, 0), RCX) }},
	{"66 41 31 5c 24 04", "xor [r12+4], bx", func(a *Asm) { a.OpStore(Xor, 2, At(R12, 4), RBX) }},
	{"48 83 c1 01", "add rcx, 1", func(a *Asm) { a.OpImm(Add, 8, RCX, 1) }},
	{"41 83 e8 80", "sub r8d, -128", func(a *Asm) { a.OpImm(Sub, 4, R8, -128) }},
	{"48 81 e2 34 12 00 00", "and rdx, 0x1234", func(a *Asm) { a.OpImm(And, 8, RDX, 0x1234) }},
	{"49 81 fb 00 00 00 80", "cmp r11, -2147483648", func(a *Asm) { a.OpImm(Cmp, 8, R11, -2147483648) }},
	{"80 f3 55", "xor bl, 0x55", func(a *Asm) { a.OpImm(Xor, 1, RBX, 0x55) }},
	{"66 81 c9 34 12", "or cx, 0x1234", func(a *Asm) { a.OpImm(Or, 2, RCX, 0x1234) }},
	{"83 3b 02", "cmp dword ptr [rbx], 2", func(a *Asm) { a.OpStoreImm(Cmp, 4, At(RBX, 0), 2) }},
	{"48 83 64 24 08 f0", "and qword ptr [rsp+8], -16", func(a *Asm) { a.OpStoreImm(And, 8, At(RSP, 8), -16) }},
	{"43 80 3c 11 00", "cmp byte ptr [r9+r10*1], 0", func(a *Asm) { a.OpStoreImm(Cmp, 1, Indexed(R9, R10, 1, 0), 0) }},
	{"48 85 ff", "test rdi, rdi", func(a *Asm) { a.Test(8, RDI, RDI) }},
	{"41 84 f0", "test r8b, sil", func(a *Asm) { a.Test(1, R8, RSI) }},
	{"f7 c1 f0 0f 00 00", "test ecx, 0xff0", func(a *Asm) { a.TestImm(4, RCX, 0xff0) }},
	{"49 f7 c6 00 10 00 00", "test r14, 0x1000", func(a *Asm) { a.TestImm(8, R14, 0x1000) }},
	{"48 f7 d0", "not rax", func(a *Asm) { a.Un(Not, 8, RAX) }},
	{"41 f7 d9", "neg r9d", func(a *Asm) { a.Un(Neg, 4, R9) }},
	{"48 f7 e6", "mul rsi", func(a *Asm) { a.Un(Mul, 8, RSI) }},
	{"49 f7 e8", "imul r8", func(a *Asm) { a.Un(IMul1, 8, R8) }},
	{"f7 f1", "div ecx", func(a *Asm) { a.Un(Div, 4, RCX) }},
	{"49 f7 ff", "idiv r15", func(a *Asm) { a.Un(IDiv, 8, R15) }},
	{"48 ff 00", "inc qword ptr [rax]", func(a *Asm) { a.Inc(At(RAX, 0)) }},
	{"f0 49 ff 03", "lock inc qword ptr [r11]", func(a *Asm) { a.LockInc(At(R11, 0)) }},
	{"f0 48 ff 04 c8", "lock inc qword ptr [rax+rcx*8]", func(a *Asm) { a.LockInc(Indexed(RAX, RCX, 8, 0)) }},
	{"66 41 c1 c0 08", "rol r8w, 8", func(a *Asm) { a.ShiftImm(Rol, 2, R8, 8) }},
	{"c1 c9 05", "ror ecx, 5", func(a *Asm) { a.ShiftImm(Ror, 4, RCX, 5) }},
	{"48 c1 e0 20", "shl rax, 32", func(a *Asm) { a.ShiftImm(Shl, 8, RAX, 32) }},
	{"49 d1 ea", "shr r10, 1", func(a *Asm) { a.ShiftImm(Shr, 8, R10, 1) }},
	{"c1 fa 1f", "sar edx, 31", func(a *Asm) { a.ShiftImm(Sar, 4, RDX, 31) }},
	{"49 d3 e1", "shl r9, cl", func(a *Asm) { a.ShiftCL(Shl, 8, R9) }},
	{"d3 f8", "sar eax, cl", func(a *Asm) { a.ShiftCL(Sar, 4, RAX) }},
	{"48 0f ac d0 20", "shrd rax, rdx, 32", func(a *Asm) { a.Shrd(8, RAX, RDX, 32) }},
	{"4d 0f af c1", "imul r8, r9", func(a *Asm) { a.IMul(8, R8, R9) }},
	{"0f af c3", "imul eax, ebx", func(a *Asm) { a.IMul(4, RAX, RBX) }},
	{"48 69 cc b9 79 37 9e", "imul rcx, rsp, -0x61c88647", func(a *Asm) { a.IMulImm(8, RCX, RSP, -0x61c88647) }},
	{"45 6b ff 1f", "imul r15d, r15d, 31", func(a *Asm) { a.IMulImm(4, R15, R15, 31) }},
	{"99", "cdq", func(a *Asm) { a.SignExtendA(4) }},
	{"48 99", "cqo", func(a *Asm) { a.SignExtendA(8) }},
	{"0f c8", "bswap eax", func(a *Asm) { a.Bswap(4, RAX) }},
	{"49 0f cc", "bswap r12", func(a *Asm) { a.Bswap(8, R12) }},
	{"41 0f bc c8", "bsf ecx, r8d", func(a *Asm) { a.Bsf(4, RCX, R8) }},
	{"41 0f ab c1", "bts r9d, eax", func(a *Asm) { a.Bts(4, R9, RAX) }},
	{"4c 0f ab c8", "bts rax, r9", func(a *Asm) { a.Bts(8, RAX, R9) }},
	{"4c 87 c1", "xchg rcx, r8", func(a *Asm) { a.Xchg(8, RCX, R8) }},
	{"48 87 0a", "xchg [rdx], rcx", func(a *Asm) { a.XchgMem(8, At(RDX, 0), RCX) }},
	{"f0 4c 0f c1 4e 08", "lock xadd [rsi+8], r9", func(a *Asm) { a.LockXadd(8, At(RSI, 8), R9) }},
	{"f0 48 0f b1 16", "lock cmpxchg [rsi], rdx", func(a *Asm) { a.LockCmpxchg(8, At(RSI, 0), RDX) }},
	{"f0 41 0f b1 08", "lock cmpxchg [r8], ecx", func(a *Asm) { a.LockCmpxchg(4, At(R8, 0), RCX) }},
	{"f0 4d 09 1a", "lock or [r10], r11", func(a *Asm) { a.LockOp(Or, 8, At(R10, 0), R11) }},
	{"53", "push rbx", func(a *Asm) { a.Push(RBX) }},
	{"41 54", "push r12", func(a *Asm) { a.Push(R12) }},
	{"5d", "pop rbp", func(a *Asm) { a.Pop(RBP) }},
	{"41 5f", "pop r15", func(a *Asm) { a.Pop(R15) }},
	{"6a ff", "push -1", func(a *Asm) { a.PushImm(-1) }},
	{"68 34 12 00 00", "push 0x1234", func(a *Asm) { a.PushImm(0x1234) }},
	{"ff 74 24 10", "push qword ptr [rsp+16]", func(a *Asm) { a.PushMem(At(RSP, 16)) }},
	{"41 8f 01", "pop qword ptr [r9]", func(a *Asm) { a.PopMem(At(R9, 0)) }},
	{"41 ff 62 08", "jmp qword ptr [r10+8]", func(a *Asm) { a.JmpMem(At(R10, 8)) }},
	{"41 ff e3", "jmp r11", func(a *Asm) { a.JmpReg(R11) }},
	{"ff 10", "call qword ptr [rax]", func(a *Asm) { a.CallMem(At(RAX, 0)) }},
	{"c3", "ret", func(a *Asm) { a.Ret() }},
	{"0f 94 c0", "sete al", func(a *Asm) { a.SetCC(CondE, RAX) }},
	{"40 0f 92 c7", "setb dil", func(a *Asm) { a.SetCC(CondB, RDI) }},
	{"49 0f 47 c9", "cmova rcx, r9", func(a *Asm) { a.CMov(CondA, 8, RCX, R9) }},
	{"0f 4c c3", "cmovl eax, ebx", func(a *Asm) { a.CMov(CondL, 4, RAX, RBX) }},
	{"0f 05", "syscall", func(a *Asm) { a.Syscall() }},
	{"0f 31", "rdtsc", func(a *Asm) { a.Rdtsc() }},
	{"f9", "stc", func(a *Asm) { a.STC() }},
	{"f8", "clc", func(a *Asm) { a.CLC() }},
	{"f3 90", "pause", func(a *Asm) { a.Pause() }},
	{"cc", "int3", func(a *Asm) { a.Int3() }},
	{"0f 0b", "ud2", func(a *Asm) { a.UD2() }},
	{"f3 0f 1e fa", "endbr64", func(a *Asm) { a.Endbr64() }},
	{"66 41 0f 6f c9", "movdqa xmm1, xmm9", func(a *Asm) { a.MovVec(1, 9) }},
	{"66 44 0f 6f 07", "movdqa xmm8, [rdi]", func(a *Asm) { a.LoadVec(8, At(RDI, 0)) }},
	{"0f 10 44 24 10", "movups xmm0, [rsp+16]", func(a *Asm) { a.LoadVecU(0, At(RSP, 16)) }},
	{"45 0f 11 7c 24 20", "movups [r12+32], xmm15", func(a *Asm) { a.StoreVecU(At(R12, 32), 15) }},
	{"66 41 0f 6e d1", "movd xmm2, r9d", func(a *Asm) { a.MovToVec(4, 2, R9) }},
	{"66 48 0f 6e c0", "movq xmm0, rax", func(a *Asm) { a.MovToVec(8, 0, RAX) }},
	{"66 0f 7e d9", "movd ecx, xmm3", func(a *Asm) { a.MovFromVec(4, RCX, 3) }},
	{"66 4d 0f 7e da", "movq r10, xmm11", func(a *Asm) { a.MovFromVec(8, R10, 11) }},
	{"66 0f 74 c8", "pcmpeqb xmm1, xmm0", func(a *Asm) { a.Vec(PCmpEqB, 1, 0) }},
	{"66 45 0f ef c9", "pxor xmm9, xmm9", func(a *Asm) { a.Vec(PXor, 9, 9) }},
	{"66 0f f8 d1", "psubb xmm2, xmm1", func(a *Asm) { a.Vec(PSubB, 2, 1) }},
	{"66 0f f6 d1", "psadbw xmm2, xmm1", func(a *Asm) { a.Vec(PSadBW, 2, 1) }},
	{"66 0f 60 c0", "punpcklbw xmm0, xmm0", func(a *Asm) { a.Vec(PUnpckLBW, 0, 0) }},
	{"66 0f 61 c0", "punpcklwd xmm0, xmm0", func(a *Asm) { a.Vec(PUnpckLWD, 0, 0) }},
	{"66 0f 6c e5", "punpcklqdq xmm4, xmm5", func(a *Asm) { a.Vec(PUnpckLQDQ, 4, 5) }},
	{"66 0f d4 f7", "paddq xmm6, xmm7", func(a *Asm) { a.Vec(PAddQ, 6, 7) }},
	{"66 41 0f db c2", "pand xmm0, xmm10", func(a *Asm) { a.Vec(PAnd, 0, 10) }},
	{"66 44 0f eb d0", "por xmm10, xmm0", func(a *Asm) { a.Vec(POr, 10, 0) }},
	{"66 0f da dc", "pminub xmm3, xmm4", func(a *Asm) { a.Vec(PMinUB, 3, 4) }},
	{"66 0f 74 0e", "pcmpeqb xmm1, [rsi]", func(a *Asm) { a.VecLoad(PCmpEqB, 1, At(RSI, 0)) }},
	{"66 0f 70 c0 00", "pshufd xmm0, xmm0, 0", func(a *Asm) { a.PShufD(0, 0, 0) }},
	{"66 44 0f 70 e3 ee", "pshufd xmm12, xmm3, 0xee", func(a *Asm) { a.PShufD(12, 3, 0xee) }},
	{"66 44 0f d7 c1", "pmovmskb r8d, xmm1", func(a *Asm) { a.PMovMskB(R8, 1) }},
	{"66 0f 73 d9 08", "psrldq xmm1, 8", func(a *Asm) { a.PSrlDQ(1, 8) }},
}

// gnuAs assembles Intel-syntax text for address 0.
func gnuAs(t *testing.T, text string) []byte {
	t.Helper()
	dir := t.TempDir()
	src, obj := filepath.Join(dir, "t.s"), filepath.Join(dir, "t.o")
	if err := os.WriteFile(src, []byte(".intel_syntax noprefix\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("as", "-o", obj, src).CombinedOutput(); err != nil {
		t.Fatalf("GNU as is needed (apt-get install binutils): %v\n%s", err, out)
	}
	f, err := elf.Open(obj)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	code, err := f.Section(".text").Data()
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// TestAsm compares every instruction with the table, and the table with GNU as.
func TestAsm(t *testing.T) {
	var text strings.Builder
	var all []byte
	for _, c := range asmTable {
		want, err := hex.DecodeString(strings.ReplaceAll(c.hex, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		a := NewAsm(0)
		c.emit(a)
		got, err := a.Bytes()
		if err != nil {
			t.Fatalf("%s: %v", c.text, err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: % x, want % x", c.text, got, want)
		}
		fmt.Fprintln(&text, c.text)
		all = append(all, want...)
	}
	if code := gnuAs(t, text.String()); !bytes.Equal(code, all) {
		t.Errorf("the table and GNU as disagree:\n% x\n% x", all, code)
	}
}

// TestAsmFlow compares branches, labels and RIP-relative operands with GNU as.
func TestAsmFlow(t *testing.T) {
	a := NewAsm(0)
	top, end, data := a.Label(), a.Label(), a.Label()
	a.Bind(top)
	a.Op(Xor, 4, RAX, RAX)
	a.Jcc(CondE, end)
	a.Jcc(CondNE, top)
	a.Jmp(top)
	a.Nop(130)
	a.Jmp(top)
	a.Jcc(CondG, top)
	a.Call(end)
	a.OpStoreImm(Cmp, 4, LabelMem(data), 0x12345678)
	a.OpStoreImm(Cmp, 4, LabelMem(data), 1)
	a.OpLoad(Add, 8, R9, LabelMem(data))
	a.LoadVec(9, LabelMem(data))
	a.JmpMem(Abs(0x1000))
	a.JmpTo(0x2000)
	a.JccTo(CondBE, 0x10)
	a.CallTo(0x3000)
	a.PushAddr(0x1122334455667788)
	a.PushAddr(0x7f000000)
	a.Bind(end)
	a.Ret()
	a.Align(8)
	a.Bind(data)
	a.Quad(0x0102030405060708)
	got, err := a.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	want := gnuAs(t, `
top:	xor eax, eax
	{disp32} je end
	jne top
	jmp top
	.rept 14
	.nops 9, 9
	.endr
	.nops 4
	jmp top
	jg top
	call end
	cmp dword ptr [rip+data], 0x12345678
	cmp dword ptr [rip+data], 1
	add r9, [rip+data]
	movdqa xmm9, [rip+data]
	jmp qword ptr [rip+top+0x1000]
	jmp top+0x2000
	{disp32} jbe top+0x10
	call top+0x3000
	push 0x55667788
	mov dword ptr [rsp+4], 0x11223344
	push 0x7f000000
end:	ret
	.balign 8, 0xcc
data:	.quad 0x0102030405060708
`)
	if !bytes.Equal(got, want) {
		t.Errorf("% x\nGNU as:\n% x", got, want)
	}
}

// TestAsmErrors: what cannot be encoded is an error, never wrong code.
func TestAsmErrors(t *testing.T) {
	for name, emit := range map[string]func(a *Asm){
		"unbound label": func(a *Asm) { a.Jmp(a.Label()) },
		"bound twice": func(a *Asm) {
			l := a.Label()
			a.Bind(l)
			a.Bind(l)
		},
		"rsp as index":   func(a *Asm) { a.Load(8, RAX, Indexed(RAX, RSP, 1, 0)) },
		"locked compare": func(a *Asm) { a.LockOp(Cmp, 8, At(RAX, 0), RCX) },
	} {
		a := NewAsm(0x1000)
		emit(a)
		if _, err := a.Bytes(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, c := range []struct {
		from, to address.Addr
		ok       bool
	}{
		{0x1000_0000, 0x1000_0000 + 5 + 1<<31 - 1, true},
		{0x1000_0000, 0x1000_0000 + 5 + 1<<31, false},
		{0x2_0000_0000, 0x2_0000_0000 + 5 - 1<<31, true},
		{0x2_0000_0000, 0x2_0000_0000 + 4 - 1<<31, false},
	} {
		a := NewAsm(c.from)
		a.JmpTo(c.to)
		if _, err := a.Bytes(); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrOutOfReach) {
			t.Errorf("jmp from %v to %v: %v", c.from, c.to, err)
		}
	}
}

// Branches to labels ahead are short in a second round where they reach, and
// exactly there.
func TestShorten(t *testing.T) {
	write := func(short []bool, between int) *Asm {
		a := NewAsm(0x1000)
		a.Shorten(short)
		near, far := a.Label(), a.Label()
		a.Jcc(CondE, near)
		a.Jmp(far)
		a.Bind(near)
		a.Nop(between)
		a.Bind(far)
		return a
	}
	first := write(nil, 200)
	b, err := first.Bytes()
	if err != nil || !bytes.Equal(b[:11], []byte{0x0f, 0x84, 5, 0, 0, 0, 0xe9, 200, 0, 0, 0}) {
		t.Fatalf("% x, %v", b, err)
	}
	reach := first.Reach(16)
	if !slices.Equal(reach, []bool{true, false}) {
		t.Fatalf("reach %v", reach)
	}
	if b, err = write(reach, 200).Bytes(); err != nil || !bytes.Equal(b[:7], []byte{0x74, 5, 0xe9, 200, 0, 0, 0}) {
		t.Errorf("% x, %v", b, err)
	}
	if b, err = write([]bool{true, true}, 127).Bytes(); err != nil || !bytes.Equal(b[:4], []byte{0x74, 2, 0xeb, 127}) {
		t.Errorf("% x, %v", b, err)
	}
	if b, err = write([]bool{true, true}, 128).Bytes(); !errors.Is(err, ErrOutOfReach) {
		t.Errorf("128 bytes: % x, %v", b, err)
	}
}

// A branch back that is too far to be short in the first round is no branch ahead; one that
// comes near enough in the second takes nothing from those behind it.
func TestShortenPastBranchBack(t *testing.T) {
	for _, between := range []int{124, 130, 300} {
		write := func(short []bool) *Asm {
			a := NewAsm(0x1000)
			a.Shorten(short)
			back, over, near, far := a.Label(), a.Label(), a.Label(), a.Label()
			a.Bind(back)
			a.Jcc(CondE, over)
			a.Nop(between - 6)
			a.Bind(over)
			a.Jmp(back)
			a.Jmp(far)
			a.Jcc(CondNE, near)
			a.Nop(3)
			a.Bind(near)
			a.Nop(200)
			a.Bind(far)
			return a
		}
		first := write(nil)
		if _, err := first.Bytes(); err != nil {
			t.Fatal(err)
		}
		second := write(first.Reach(16))
		b, err := second.Bytes()
		if err != nil {
			t.Errorf("%d bytes between: %v", between, err)
			continue
		}
		near := b[len(b)-200-3-2:]
		if !bytes.Equal(near[:2], []byte{0x75, 3}) {
			t.Errorf("%d bytes between: the branch ahead is % x", between, near[:2])
		}
		if far := b[len(b)-200-3-2-5:]; !bytes.Equal(far[:5], []byte{0xe9, 205, 0, 0, 0}) {
			t.Errorf("%d bytes between: the far branch is % x", between, far[:5])
		}
	}
}
