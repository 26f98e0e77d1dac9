package pie

import (
	"time"

	"github.com/patch-integration-engine/pie/internal/live/background"
)

// InBackground makes the whole calling process give way to every other program
// (SCHED_IDLE, sched(7)) while it prepares, for at most the time given; while
// threads of a target are stopped it does not. It reports false, and changes nothing,
// where the right to come back is missing. Programs that are started meanwhile
// give way, too.
func InBackground(limit time.Duration) bool { return background.Enter(limit) }

// KeepOff keeps what is in the background off the CPUs that these processes compute on
// just now, while it is there, if another is left. Insert, Remove and SetMode do so for
// the processes they select; who knows them earlier can say so earlier.
func KeepOff(pids ...int) { background.KeepOff(pids...) }
