package compile

// maxMoves is how many moves are repeated to spare a branch.
const maxMoves = 3

// threadJumps lets jumps go where they will end up: over empty blocks, and
// over a branch whose outcome is known on the way to it, as in
//
//	r = 1; jump B        B: branch r != 0
//
// which is what && and || and functions that return a bool leave. B may move
// registers before it branches; the moves are repeated.
func threadJumps(blocks []*block) {
	for _, b := range blocks {
		for i := range b.succs() {
			for range len(blocks) {
				next := b.to[i]
				if len(next.insns) > 0 || next.end != endJump || next == b {
					break
				}
				b.to[i] = next.to[0]
			}
		}
		for range maxMoves {
			if b.end != endJump || !skipBranch(b, b.to[0]) {
				break
			}
		}
		if b.end == endBranch && b.to[0] == b.to[1] {
			b.end = endJump
		}
	}
}

// skipBranch lets b, which jumps to at, go on where the branch that at leads to
// will go, and reports whether it could tell.
func skipBranch(b, at *block) bool {
	moves, at := movesToBranch(at)
	if at == nil || !at.b.isConst() {
		return false
	}
	value, known := movedTo(at.a, moves, b.insns)
	if !known {
		return false
	}
	b.insns = append(b.insns, moves...)
	if b.to[0] = at.to[1]; holdsFor(at.cond, value, at.b.c) {
		b.to[0] = at.to[0]
	}
	return true
}

// movesToBranch follows at to the first block that branches, and returns that
// and all moves up to its branch; no block if there is anything else on the way.
func movesToBranch(at *block) ([]insn, *block) {
	var moves []insn
	for range 2 * maxMoves { // of empty blocks there may be a ring
		for _, i := range at.insns {
			if moves = append(moves, i); i.op != opMov || len(moves) > maxMoves {
				return nil, nil
			}
		}
		switch at.end {
		case endBranch:
			return moves, at
		case endJump:
			at = at.to[0]
		default:
			return nil, nil
		}
	}
	return nil, nil
}

// movedTo returns what o holds after the instructions of earlier and then of
// later, if they move a constant to it.
func movedTo(o operand, later, earlier []insn) (int64, bool) {
	for _, insns := range [][]insn{later, earlier} {
		for i := len(insns) - 1; i >= 0 && !o.isConst(); i-- {
			if insns[i].dst != o.r {
				continue
			}
			if insns[i].op != opMov {
				return 0, false
			}
			o = insns[i].a
		}
	}
	return o.c, o.isConst()
}
