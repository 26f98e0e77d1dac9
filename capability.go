package pie

import (
	"github.com/patch-integration-engine/pie/internal/live/arena"
)

// capabilities are what a prepatch may ask for, by the name in //pie:cap, with
// what the operator is told of each.
var capabilities = []struct {
	name, words string
	flag        arena.Flags
}{
	{"rewrite", "may change arguments of the call", arena.FlagRewrites},
	{"write", "may write the program's memory", arena.FlagWrites},
	{"call", "may call functions of the program, and what those take cannot be bounded", arena.FlagCalls},
	{"exit", "may end the process", arena.FlagExits},
	{"shared", "shares its state with the processes that fork from one another", 0},
}

// CapabilityWords says what a prepatch with this capability may do; the name
// itself when it is not known.
func CapabilityWords(name string) string {
	for _, c := range capabilities {
		if c.name == name {
			return c.words
		}
	}
	return name
}

// capsOf names the capabilities that a process says an inserted prepatch has.
func capsOf(f arena.Flags) (names []string) {
	for _, c := range capabilities {
		if f&c.flag != 0 {
			names = append(names, c.name)
		}
	}
	return names
}
