// Package libpie is what a prepatch is written with: what a guard can see of a
// call, and what it can say about it.
//
// A guard is an ordinary Go function. It stands in front of a function of a
// running program and is asked before every call of it:
//
//	//pie:guard exe=redis-server func=stringmatchlen onfault=pass onfuel=reject:0
//	func Match(c *libpie.Call, pattern libpie.Addr, n int32) libpie.Verdict {
//		if c.Bytes(pattern, int(n)).Count('*') > 1000 {
//			return libpie.Reject(int32(0))
//		}
//		return libpie.Pass()
//	}
//
// The same source runs in two ways. pie compiles it to verified bytecode and
// places it in the process; there the names of this package are instructions,
// not calls. Under go test it runs natively, with package libpietest in the
// place of the process, and the bodies in this package are what runs.
//
// # Faults and fuel
//
// Memory of the target may be anything: NULL, unmapped, gone. A read that cannot
// be done ends the guard with the directive's onfault; so does every Go panic
// (an index out of range, a division by zero, a nil dereference) and a length
// that is negative or above [MaxLength]. Nothing ever reads as zero instead. A
// guard that runs too long ends with onfuel.
//
// # Parameters
//
// The parameters of a guard are the parameters of the guarded function, from the
// first, as many as the guard needs. Each takes the argument words of its type: a
// sized integer, bool, [Addr] or pointer one, [GoString], [GoError] and
// [GoInterface] two, [GoSlice] three. The upper half of an int32 argument's
// register is garbage; a parameter declared int32 is extended from its low 32
// bits. Floating-point parameters of a C function travel elsewhere: leave them
// out of the list.
package libpie
