package arena

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
)

// magic opens the state region; the last byte is not text so that no text
// file or string table is taken for an arena.
var magic = [8]byte{'P', 'I', 'E', 'a', 'r', 'n', 'a', 0x9d}

const formatVersion = 2

var order = binary.LittleEndian

// Record is bytes for one place in the state region. One remote write writes
// it, and it never crosses a page.
type Record struct {
	Off   int // from the start of the state region
	Bytes []byte
}

// Encode returns the whole state region.
func (a *Arena) Encode() []byte {
	b := make([]byte, a.Header.state)
	put := func(r Record) { copy(b[r.Off:], r.Bytes) }
	put(a.EncodeHeader())
	for i := range a.Slots {
		put(a.EncodeSlot(i))
	}
	for i := range a.Prepatches {
		put(a.EncodePrepatch(i))
	}
	for i := range a.Guards {
		put(a.EncodeGuard(i))
		put(a.EncodeControl(i))
	}
	put(a.EncodeHandler())
	put(a.EncodeBlock())
	return b
}

// EncodeHeader returns the header.
func (a *Arena) EncodeHeader() Record {
	w := writer{make([]byte, 0, headerSize)}
	w.bytes(magic[:])
	w.u32(a.Header.Version)
	w.u32(headerSize)
	w.u64(uint64(a.Base))
	g := a.Header.geometry
	for _, v := range []uint32{g.code, g.state, g.shared, a.Header.Creator} {
		w.u32(v)
	}
	w.u64(a.Header.TSCHz)
	w.u64(a.Header.TSC)
	w.time(a.Header.Created)
	for _, t := range []table{g.controls, g.slots, g.prepatches, g.guards, g.counters, g.events} {
		w.u32(t.off)
		w.u32(t.count)
		w.u32(t.size)
	}
	w.u32(g.ringHead)
	w.u32(g.shardSize)
	w.u32(g.handler)
	w.text(a.Header.Build, buildMax)
	w.u64(uint64(a.Header.apart))
	w.pad(headerSize - 4)
	w.u32(checksum(w.b))
	return Record{0, w.b}
}

const (
	buildMax = 31
	idMax    = MaxID
	funcMax  = 47
	imageMax = 31
	noteMax  = 32 // build ID
)

// EncodeSlot returns slot i's record.
func (a *Arena) EncodeSlot(i int) Record {
	s := a.Slots[i]
	w := writer{make([]byte, 0, slotSize)}
	w.bytes(s.Key[:])
	w.u16(uint16(s.Start / Granule))
	w.u16(uint16(s.Size / Granule))
	w.u8(uint8(s.Kind))
	w.u8(uint8(s.State))
	w.u16(0)
	w.u64(s.Content)
	return Record{int(a.Header.slots.row(i)), w.b}
}

// EncodePrepatch returns prepatch i's record.
func (a *Arena) EncodePrepatch(i int) Record {
	p := a.Prepatches[i]
	w := writer{make([]byte, 0, prepatchSize)}
	w.text(p.ID, idMax)
	w.bytes(p.Hash[:])
	w.time(p.Inserted)
	w.u16(uint16(p.Guards))
	w.u16(uint16(p.Flags))
	w.u8(uint8(p.State))
	w.pad(prepatchSize)
	return Record{int(a.Header.prepatches.row(i)), w.b}
}

// EncodeGuard returns guard i's record.
func (a *Arena) EncodeGuard(i int) Record {
	g := a.Guards[i]
	w := writer{make([]byte, 0, guardSize)}
	w.u8(uint8(g.State))
	w.u8(uint8(g.Order))
	w.u16(uint16(g.Prepatch))
	w.u16(uint16(g.Body))
	w.u16(uint16(g.Slot))
	w.u64(uint64(g.Site))
	w.u64(uint64(g.SiteOff))
	w.u64(g.Image.Dev)
	w.u64(g.Image.Inode)
	w.u8(uint8(min(len(g.Original), MaxPatch)))
	w.u8(uint8(min(len(g.Image.BuildID), noteMax)))
	w.u8(g.FaultMode)
	w.u8(uint8(g.Inner))
	w.u16(uint16(g.Link))
	w.u16(uint16(min(g.Base.Refused, MaxRefused)))
	w.fixed(g.Original, MaxPatch)
	w.fixed(g.Patch, MaxPatch)
	w.fixed(g.Image.BuildID, noteMax)
	c := g.Base
	for _, v := range []uint64{c.Calls, c.Rejects, c.Audited, c.Faults, c.Fuel, c.Logs} {
		w.u64(v)
	}
	w.text(g.Function, funcMax)
	w.text(g.Image.Name, imageMax)
	w.pad(guardSize)
	return Record{int(a.Header.guards.row(i)), w.b}
}

// EncodeControl returns guard i's control block.
func (a *Arena) EncodeControl(i int) Record {
	return Record{int(a.Header.controls.row(i)), append([]byte(nil), a.Controls[i]...)}
}

// EncodeHandler returns the record of table mode's handler.
func (a *Arena) EncodeHandler() Record {
	w := writer{make([]byte, 0, handlerRecord)}
	w.u16(uint16(a.Handler.Slot + 1))
	w.pad(handlerRecord)
	return Record{int(a.Header.handler), w.b}
}

// EncodeBlock returns the fault block.
func (a *Arena) EncodeBlock() Record {
	b := make([]byte, jit.FaultsSize)
	copy(b, a.Handler.Block)
	return Record{int(a.Header.handler) + handlerRecord, b}
}

// FaultBlock is the address of jit's fault block; behind it is room for two
// struct sigaction, at Scratch.
func (a *Arena) FaultBlock() address.Addr {
	return a.State().Start.Add(int64(a.Header.handler) + handlerRecord)
}

// Scratch is the address of 64 bytes for the arguments of rt_sigaction(2).
func (a *Arena) Scratch() address.Addr { return a.FaultBlock().Add(jit.FaultsSize) }

// handlerRecord is the size of the handler's record, ahead of the fault block.
const handlerRecord = 32

func checksum(b []byte) uint32 { return crc32.ChecksumIEEE(b) }
