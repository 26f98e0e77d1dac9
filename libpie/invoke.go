package libpie

// Returned is how a function of the program came back from Invoke.
type Returned struct {
	Word   uint64 // its result, in rax; what a shorter type leaves undefined above is garbage
	Double uint64 // the bits of its floating-point result, in the low half of xmm0
	Errno  Errno  // what it has set errno to; 0 if it has not
}

// Invoke calls function fn of the program, as C does, and needs the capability
// //pie:cap call. fn is a constant, written as func= in a directive is; which
// implementation an IFUNC means is what the process uses. There are at most six
// arguments, each written as Word(…); in rax is 0, as of a call without
// floating-point arguments. errno and all registers are afterwards as they were.
//
// It is a fault when less than 32 KiB of the thread's stack are left, on the stack of
// a signal handler, and when more than 128 threads are in such calls at once. A guard
// of the prepatch that is called meanwhile in the same thread passes without looking.
// In audit mode, and when the trial is over, no function is called: the guard ends
// with a pass, and is counted as one that would have acted.
//
// The function runs on the program's own thread: it takes what it takes, may wait
// for a lock that the thread holds, and must return: not by longjmp or an exception.
// A guard of a Go function cannot call.
func (c *Call) Invoke(fn string, args ...Result) Returned {
	words := make([]uint64, len(args))
	for i, a := range args {
		words[i] = a.Word
	}
	return c.env.Invoke(fn, words)
}
