# Instructions that libc lacks, for effects_test.go.
	adcx %rcx,%rax
	adox %ecx,%edx
	mulx %rbx,%rcx,%rsi
	mulx %ebx,%ecx,%ecx
	rorx $3,%rcx,%r9
	andn %rax,%rcx,%rdx
	blsr %rax,%r10
	blsi %ecx,%edx
	blsmsk %rax,%rcx
	bzhi %rcx,%rax,%rdx
	pdep %rcx,%rax,%rdx
	pext %ecx,%eax,%edx
	bextr %rcx,%rax,%rdx
	sarx %rcx,%rax,%rdx
	shlx %ecx,%eax,%edx
	shrx %rcx,8(%rsi),%rdx
	crc32b %cl,%eax
	crc32w %cx,%eax
	crc32l %ecx,%eax
	crc32q %rcx,%rax
	movbe 8(%rsi),%rax
	movbe %ecx,8(%rsi)
	movbe 8(%rsi),%ax
	xadd %al,%cl
	xadd %ah,%dl
	xadd %rax,8(%rsi)
	lock xadd %ecx,(%rdi)
	cmpxchg %cl,%dl
	cmpxchg %ecx,%edx
	cmpxchg %rcx,(%rsi)
	bswap %eax
	bswap %r11
	bt %rcx,%rax
	bts %ecx,%eax
	btr %rcx,%rax
	btc %cx,%ax
	bt $5,%rax
	bts $5,%eax
	btrq $5,(%rsi)
	btc $5,%rax
	shld $3,%rcx,%rax
	shld %cl,%edx,%eax
	shrd $3,%rcx,%rax
	shrd %cl,%rdx,%rax
	rol %cl,%eax
	ror $3,%rax
	rcl $1,%eax
	rcr $3,%rax
	rcl %cl,%al
	rcr %cl,%dx
	shl %cl,%rax
	shr $1,%ax
	sar $3,%ah
	mulb %cl
	mul %cx
	mull %ecx
	mulq (%rsi)
	imulb %dl
	imul %ecx
	imul %rcx
	imul $3,%rcx,%rax
	imul $300,%ecx,%eax
	imul %cx,%ax
	divb %cl
	div %cx
	div %ecx
	div %rcx
	idivb %bl
	idiv %ebx
	idiv %rbx
	not %al
	notw (%rsi)
	neg %ah
	neg %rcx
	incb %cl
	inc %ax
	incq (%rsi)
	dec %r8d
	sete %al
	seto %ah
	setb (%rsi)
	setg %r9b
	setl %sil
	xchg %rax,%rcx
	xchg %eax,%r8d
	xchg %al,%ah
	xchg %cx,%dx
	xchg %rax,(%rsi)
	movsbl %ah,%eax
	movsbq %cl,%rdx
	movswl %cx,%edx
	movzbw %cl,%dx
	movzwl (%rsi),%eax
	movslq %ecx,%rax
	lodsb
	lodsw
	lodsl
	lodsq
	rep lodsb
	stosb
	stosw
	rep stosl
	rep stosq
	movsb
	movsw
	movsl
	rep movsb
	rep movsq
	cmpsb
	cmpsl
	repz cmpsb
	repnz cmpsw
	scasb
	scasq
	repnz scasb
	repz scasl
	cbtw
	cwtl
	cltq
	cwtd
	cltd
	cqto
	adc %rcx,%rax
	adc $5,%al
	adc $5,%eax
	sbb %ecx,%ecx
	sbb $0,%rdx
	sub %rax,%rax
	sub %ax,%ax
	xor %cl,%cl
	xor %r9d,%r9d
	add %ah,%ch
	or $1,%dh
	and $5,%ax
	cmp %ah,%al
	testb $1,%ah
	test $5,%al
	test $500,%eax
	popcnt %rcx,%rax
	tzcnt %ecx,%eax
	lzcnt %rcx,%rax
	bsf %rcx,%rax
	bsr (%rsi),%rax
	cmovb %cx,%ax
	cmovo %rcx,%rax
	lea (%rax,%rcx,4),%rdx
	lea 5(%rsi),%ax
	lea (,%rcx,8),%r8d
	mov %ah,%cl
	movb $5,%ah
	movw $5,%cx
	movabs $0x1122334455667788,%rdx
	movl $5,(%rsi)
	pextrb $3,%xmm0,%eax
	pextrw $3,%xmm0,%ecx
	pextrd $1,%xmm0,%edx
	pextrq $1,%xmm0,%r8
	pextrd $1,%xmm0,(%rsi)
	extractps $1,%xmm0,%eax
	pinsrb $3,%eax,%xmm1
	pinsrw $3,%ecx,%xmm1
	pinsrd $1,%edx,%xmm1
	pinsrq $1,%r8,%xmm1
	pmovmskb %xmm0,%eax
	movmskpd %xmm0,%ecx
	movmskps %xmm0,%r9d
	cvtsi2sd %eax,%xmm0
	cvtsi2sd %rcx,%xmm0
	cvtsi2ss %r8,%xmm0
	cvttsd2si %xmm0,%rax
	cvtsd2si %xmm0,%ecx
	cvttss2si %xmm0,%r9
	cvtps2dq %xmm0,%xmm1
	pcmpestri $0,%xmm1,%xmm0
	pcmpestrm $0,%xmm1,%xmm0
	pcmpistri $0,%xmm1,%xmm0
	pcmpistrm $0,%xmm1,%xmm0
	ptest %xmm0,%xmm1
	comisd %xmm0,%xmm1
	ucomiss %xmm0,%xmm1
	movd %eax,%xmm0
	movq %rcx,%xmm0
	movd %xmm0,%edx
	movq %xmm0,%r8
	movq %xmm0,%xmm1
	movq %xmm0,(%rsi)
	movnti %eax,(%rsi)
	movntdq %xmm0,(%rsi)
	movups %xmm0,(%rsi)
	movlps %xmm0,(%rsi)
	movhpd %xmm0,(%rsi)
	maskmovdqu %xmm0,%xmm1
	movdq2q %xmm0,%mm0
	movq2dq %mm0,%xmm0
	cvtpi2pd %mm0,%xmm0
	paddb %mm0,%mm1
	pmovmskb %mm0,%eax
	movd %ecx,%mm0
	movd %mm0,%edx
	pshufb %mm0,%mm1
	pshufb %xmm0,%xmm1
	emms
	fnstsw %ax
	fcomi %st(1),%st
	fcmovb %st(1),%st
	fldz
	fstpl (%rsi)
	fldl (%rsi)
	vmovd %eax,%xmm0
	vmovq %rcx,%xmm0
	vmovd %xmm0,%edx
	vmovq %xmm0,%r8
	vpmovmskb %ymm0,%eax
	vmovmskpd %ymm0,%ecx
	vpextrb $3,%xmm0,%eax
	vpextrw $3,%xmm0,%r9d
	vpinsrd $1,%edx,%xmm1,%xmm1
	vpinsrw $1,%ecx,%xmm1,%xmm1
	vcvtsi2sd %rcx,%xmm0,%xmm0
	vcvttsd2si %xmm0,%rax
	vptest %ymm0,%ymm1
	vtestps %xmm0,%xmm1
	vcomisd %xmm0,%xmm1
	vpcmpistri $0,%xmm1,%xmm0
	vpcmpestri $0,%xmm1,%xmm0
	vmaskmovps %xmm0,%xmm1,(%rsi)
	vpmaskmovq %ymm0,%ymm1,(%rsi)
	vextractf128 $1,%ymm0,(%rsi)
	vcvtps2ph $0,%xmm0,(%rsi)
	vbroadcastss (%rsi),%ymm0
	vmovntps %ymm0,(%rsi)
	vzeroupper
	rdtsc
	cpuid
	xgetbv
	rdtscp
	mfence
	pause
	prefetcht0 (%rsi)
	clc
	stc
	cmc
	stmxcsr (%rsi)
	nopl 8(%rax)
