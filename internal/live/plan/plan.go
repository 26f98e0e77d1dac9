package plan

import (
	"github.com/patch-integration-engine/pie/internal/address"
	"github.com/patch-integration-engine/pie/internal/guard/bpf"
	"github.com/patch-integration-engine/pie/internal/guard/jit"
	"github.com/patch-integration-engine/pie/internal/guard/verify"
	"github.com/patch-integration-engine/pie/internal/live/arena"
)

// Input is everything a plan for one process is made from.
type Input struct {
	ID    string   // of the prepatch
	Hash  [32]byte // content hash of the prepatch
	Build string   // of pie
	Space *arena.Space
	// State is how many bytes of state the guards share, SharedState that
	// processes do, too, and Blocks the state that the process has.
	State       uint32
	SharedState bool
	Blocks      []arena.Block
	// Guards of one prepatch go in together or not at all.
	Guards []GuardInput
	// Again: the guards are in, and those get other code whose reads survive a bad
	// address in another way than GuardInput.Faults says. The others are left out.
	Again bool

	state address.Addr // of the prepatch's state, once Build has found a place
	again map[guardAt]bool
}

// GuardInput is one guard for one function.
type GuardInput struct {
	Name     string // the guard's name in the prepatch
	Program  *verify.Program
	Function Function
	Image    arena.Image
	Mapped   arena.Range    // of the whole image in the process
	EntryOff address.Off    // of Function.Entry in the image's file
	Symbols  []address.Addr // by Unit.Symbols
	Errno    jit.ErrnoSlot
	Rseq     jit.RseqArea // as jit.Layout.Rseq
	StackEnd address.Addr // as jit.Layout's of the same name
	Pointer  bool
	Gettid   bool // as jit.Layout.Gettid
	Faults   jit.FaultMode
	XSave    int32 // as jit.Layout.XSave
}

// Plan is what will be written into one process. Only Build makes one.
type Plan struct {
	id     string
	hash   [32]byte
	state  *arena.Block
	caps   bpf.Caps
	guards []Guard
}

// Caps is what the prepatch may do beyond looking, rejecting and noting.
func (p *Plan) Caps() bpf.Caps { return p.caps }

// State is the memory of the prepatch's state; nil when it has none.
func (p *Plan) State() *arena.Block { return p.state }

// Guard is one guard of a plan.
type Guard struct {
	Name     string // the guard's name in the prepatch
	Place    arena.Place
	Function string
	Image    arena.Image
	Site     address.Addr
	SiteOff  address.Off  // of Site in the image's file
	Original []byte       // the bytes at Site, as the file has them
	Patch    []byte       // what replaces them; as long as Original, in one page
	Entrance address.Addr // where a punned jump leads: a jump to the site's first guard; 0: Patch leads to it
	Vacated  address.Addr // the end of the bytes from Site on that threads are moved out of
	Moves    []Move
	Code     *jit.Code
	Faults   jit.FaultMode // recorded in the process
	Where    Site
}

// Move says where a thread goes on that was stopped inside a site, or the loop that begins
// there: at From, an instruction of it, to To, the same instruction in the guard's copy.
type Move struct{ From, To address.Addr }

// ID is the prepatch's id.
func (p *Plan) ID() string { return p.id }

// Hash is the content hash of the prepatch.
func (p *Plan) Hash() [32]byte { return p.hash }

// Guards are the plan's guards, in the prepatch's order. The slice is shared.
func (p *Plan) Guards() []Guard { return p.guards }
