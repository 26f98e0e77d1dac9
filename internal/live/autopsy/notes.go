package autopsy

import (
	"bytes"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/proc"
)

// Notes of a core (core(5), the kernel's include/uapi/linux/elf.h, and struct
// elf_prstatus and elf_prpsinfo of linux/elfcore.h for x86-64).
const (
	noteStatus = 1          // NT_PRSTATUS: a thread's registers
	noteInfo   = 3          // NT_PRPSINFO
	noteFile   = 0x46494c45 // NT_FILE: which mapping is of which file
	noteSignal = 0x53494749 // NT_SIGINFO: what the thread before it ended by

	statusPid  = 32
	statusRegs = 112
	statusSize = 336
	regRIP     = statusRegs + 16*8
	regRSP     = statusRegs + 19*8
	infoPid    = 24
	infoName   = 40
	nameLength = 16
)

// readNotes reads one note segment: records of three lengths, a name and a
// descriptor, each padded to 4 bytes.
func (c *Core) readNotes(l load) error {
	if l.size > maxNotes {
		return fmt.Errorf("%d bytes of notes: %w", l.size, ErrNotCore)
	}
	b := make([]byte, l.size)
	if n, err := c.file.ReadAt(b, int64(l.off)); n < len(b) {
		return fmt.Errorf("its notes: %w (%v)", ErrNotCore, err)
	}
	for len(b) >= 12 {
		name, size, kind := uint64(order.Uint32(b)), uint64(order.Uint32(b[4:])), order.Uint32(b[8:])
		from := 12 + (name+3)&^3
		end := from + (size+3)&^3
		if from+size > uint64(len(b)) {
			return fmt.Errorf("a note of %d bytes: %w", size, ErrNotCore)
		}
		c.note(kind, b[from:from+size])
		b = b[min(end, uint64(len(b))):]
	}
	return nil
}

func (c *Core) note(kind uint32, d []byte) {
	switch {
	case kind == noteStatus && len(d) >= statusSize && len(c.threads) < maxThreads:
		c.threads = append(c.threads, Thread{
			Tid: int(order.Uint32(d[statusPid:])), PC: address.Addr(order.Uint64(d[regRIP:])), SP: address.Addr(order.Uint64(d[regRSP:])),
		})
	case kind == noteInfo && len(d) >= infoName+nameLength:
		c.pid = int(order.Uint32(d[infoPid:]))
		name, _, _ := bytes.Cut(d[infoName:infoName+nameLength], []byte{0})
		c.name = string(name)
	case kind == noteSignal && len(c.threads) > 0 && c.threads[len(c.threads)-1].Signal.Number == 0:
		c.threads[len(c.threads)-1].Signal, _ = parseSiginfo(d)
	case kind == noteFile:
		c.files(d)
	}
}

// files reads NT_FILE: count, page size, then start, end and offset in pages of
// each mapping, then their names.
func (c *Core) files(d []byte) {
	if len(d) < 16 {
		return
	}
	count, page := order.Uint64(d), order.Uint64(d[8:])
	if count > uint64(len(d))/24 || page > 1<<30 {
		return
	}
	rows, names := d[16:], d[min(16+24*count, uint64(len(d))):]
	for i := range count {
		if uint64(len(rows)) < 24*(i+1) {
			return
		}
		row := rows[24*i:]
		name, rest, ok := bytes.Cut(names, []byte{0})
		if !ok {
			return
		}
		names = rest
		c.maps = append(c.maps, proc.Mapping{
			Start: address.Addr(order.Uint64(row)), End: address.Addr(order.Uint64(row[8:])),
			Offset: address.Off(order.Uint64(row[16:]) * page), Path: string(name), File: proc.FileID{Inode: i + 1},
		})
	}
}
