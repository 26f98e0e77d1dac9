package arena

import (
	"bytes"
	"fmt"

	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
)

// A Block is the memory of one prepatch's state: a mapping of its own, rw-, outside
// of the arenas. Its first 64 bytes say what it is:
//
//	 0  seed of the hashes, random: the only word that guards read
//	 8  magic
//	16  content hash of the prepatch
//	48  size of the block, and 1 if it is shared, u32 each
//
// It stays when its prepatch is removed, as a thread may still be in a guard, and
// is found again when the same prepatch comes back: then a private one begins
// empty, a shared one goes on.
type Block struct {
	At      address.Addr
	Size    int // bytes, whole pages
	Shared  bool
	Program [32]byte // content hash of the prepatch
	Mapped  bool     // the process has it
}

// MaxBlocks is how many blocks one process may have: as they stay, it bounds what
// inserting ever new prepatches costs.
const MaxBlocks = 8

var blockMagic = [8]byte{'P', 'I', 'E', 's', 't', 'a', 't', 0x9d}

// BlockHeader is the size of a block's header.
const BlockHeader = bpf.StateFirst

const page = 4096

// BlockSize is the size of a block for so many bytes of state.
func BlockSize(state uint32) int { return (int(state) + page - 1) &^ (page - 1) }

// Range is where the block is.
func (b *Block) Range() Range { return Range{b.At, b.At.Add(int64(b.Size))} }

// Header returns what the block begins with.
func (b *Block) Header(seed uint64) []byte {
	w := writer{make([]byte, 0, BlockHeader)}
	w.u64(seed)
	w.bytes(blockMagic[:])
	w.bytes(b.Program[:])
	w.u32(uint32(b.Size))
	shared := uint32(0)
	if b.Shared {
		shared = 1
	}
	w.u32(shared)
	w.pad(BlockHeader)
	return w.b
}

// DecodeBlock reads the header of what may be a block, mapped at r; ok is false
// when it is none.
func DecodeBlock(r Range, shared bool, header []byte) (b Block, ok bool) {
	if len(header) < BlockHeader || !bytes.Equal(header[8:16], blockMagic[:]) {
		return Block{}, false
	}
	b = Block{At: r.Start, Size: int(r.End - r.Start), Shared: shared, Mapped: true}
	copy(b.Program[:], header[16:48])
	return b, bytes.Equal(header[8:], b.Header(0)[8:])
}

// Block returns a block for a prepatch's state: the one it had, or a new one in a
// gap near image. has are the blocks of the process.
func (s *Space) Block(has []Block, program [32]byte, state uint32, shared bool, image Range) (*Block, error) {
	size := BlockSize(state)
	for _, b := range has {
		if b.Program == program && b.Size == size && b.Shared == shared {
			return &b, nil
		}
	}
	if len(has) >= MaxBlocks {
		return nil, fmt.Errorf("the process has the state of %d prepatches already: %w", len(has), ErrFull)
	}
	at, err := gap(s.used, image, address.Addr(size))
	if err != nil {
		return nil, err
	}
	b := &Block{At: at, Size: size, Shared: shared, Program: program}
	s.used = append(s.used, b.Range())
	return b, nil
}
