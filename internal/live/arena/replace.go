package arena

import (
	"fmt"
)

// A guard that is in gets other code without a moment in which a call is not looked at:
// the new code is booked under a record of its own, the spare one, which has the same
// prepatch, site and order and stays as prepared. In the stopped world the site, or the
// link ahead, is led to the new code; then the guard's record takes the code over and the
// spare one is free again. The code uses the guard's control block, counters and number,
// so that mode, trial and counts are what they were. A pie that dies in between leaves a
// spare record, and either code is one that every call goes through.

// AllotAgain books a place for other code of guard i, which is in. Place.Index is that of
// the spare record, Place.Guard is i.
func (a *Arena) AllotAgain(i int, n Need) (Place, error) {
	n.Variant = fmt.Sprintf("%s for guard %d", n.Variant, i)
	p, err := a.Allot(n)
	if err != nil {
		return Place{}, err
	}
	slot := a.Guards[p.Index].Slot
	for j, g := range a.Guards {
		if j != p.Index && g.State != Free && g.Slot == slot {
			return Place{}, fmt.Errorf("%v: guard %d has the code already that guard %d is to get: %w", a, j, i, ErrFull)
		}
	}
	p.Guard, p.Control = i, a.Control(i)
	p.Counters, _, _ = a.Counters(i)
	return p, nil
}

// SpareOf returns the guard that record j is the spare one of, or −1.
func (a *Arena) SpareOf(j int) int {
	s := &a.Guards[j]
	if s.State != Prepared || s.Prepatch < 0 {
		return -1
	}
	for i, g := range a.Guards {
		if i != j && g.State == In && g.Prepatch == s.Prepatch && g.Site == s.Site && g.Order == s.Order {
			return i
		}
	}
	return -1
}

// Spare returns the spare record of guard i, or −1.
func (a *Arena) Spare(i int) int {
	for j := range a.Guards {
		if a.SpareOf(j) == i {
			return j
		}
	}
	return -1
}

// TakeOver gives guard i the code of spare record j, to which its site leads. Its old code
// may have threads in it.
func (a *Arena) TakeOver(i, j int) {
	g, s := &a.Guards[i], a.Guards[j]
	if g.Slot != s.Slot {
		a.Slots[g.Slot].State = SlotQuarantined
	}
	g.Slot, g.Body, g.Link, g.Patch, g.FaultMode = s.Slot, s.Body, s.Link, s.Patch, s.FaultMode
	a.Guards[j] = Guard{}
}
