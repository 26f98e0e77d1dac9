// Command begins tells how many CPUs the Go runtime began on, and how many processors of
// its own it may use behind Over.
package main

import (
	"fmt"
	"runtime"

	"github.com/patch-integration-engine/pie/internal/startup"
)

func main() {
	fmt.Println(runtime.NumCPU())
	startup.Over()
	runtime.SetDefaultGOMAXPROCS()
	fmt.Println(runtime.GOMAXPROCS(0))
}
