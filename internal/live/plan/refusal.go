package plan

// Code is the stable reason of a refusal, as the command line prints it.
type Code string

// Reasons for which a function is not guarded.
const (
	SiteTooShort    Code = "site_too_short"   // fewer than five bytes can be replaced
	SiteBranch      Code = "site_branch"      // a branch enters the bytes to be replaced, or a loop returns to them
	SiteUndecodable Code = "site_undecodable" // an instruction is not known
	SiteCall        Code = "site_call"        // a call that does not end the bytes to be replaced
	SiteSystem      Code = "site_system"      // a system call, which the kernel restarts by moving the pc back
	SiteFlags       Code = "site_flags"       // the flags are in use there
	SitePage        Code = "site_page"        // no site within one page
	SiteGo          Code = "site_go"          // a Go function without a stack check, whose first instruction cannot be replaced alone
	SiteRange       Code = "site_range"       // the arena is out of reach, or no entrance can be where a punned jump leads
	SiteOverlap     Code = "site_overlap"     // another prepatch has replaced some of these bytes, not all
	GuardPlace      Code = "guard_place"      // the guard cannot be compiled for this place
	ArenaFull       Code = "arena_full"       // no room in PIE's memory in the process
)

// Refusal says why a function cannot be guarded and what to do instead.
// Nothing was changed.
type Refusal struct {
	Code    Code
	Msg     string // what is in the way, with function and address
	Instead string // what the operator can do; may be empty
	Err     error  // the cause, where there is one
}

func (r *Refusal) Error() string { return r.Msg + " [" + string(r.Code) + "]" }

func (r *Refusal) Unwrap() error { return r.Err }
