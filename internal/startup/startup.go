// Package startup keeps a command that works beside a busy program to the CPU it is
// started on, until it says that it knows better (Over).
//
// The Go runtime starts threads before main runs, and setting up the packages of a
// large program takes them some milliseconds. The kernel puts them on whatever CPU
// looks good to it, also on one that another program computes on, and makes that one
// wait: felt like a stop of some tenths of a millisecond, several times what pie's own
// stop of it takes. Nobody knows yet which program is to be left alone.
//
// So the package comes before them. A program that is linked with -E pie_entry begins
// here (entry_amd64.s), ahead of the runtime, whose first thread then has one CPU, and all
// others by it: threads inherit their CPUs from the one that starts them
// (sched_setaffinity(2)). The runtime takes that for a machine with one CPU, GOMAXPROCS
// is 1, and whoever calls Over says what it is to be afterwards.
//
// Linked in the ordinary way, as by go run, a program is kept to one CPU by init. That
// relies on the order of initialization (Go 1.21: by import path, each package once its
// imports are): it imports so little that hardly another comes before it. The runtime's
// own threads do, and may be felt.
//
// It is for the commands named here and no other process: what a program starts of
// itself as a helper begins, and often stays, in the set-up of some package, where nobody calls Over.
package startup

import (
	"syscall"
	"unsafe"
)

// Beside tells whether a command prepares beside the program that it is about, and so
// begins on one CPU.
func Beside(command string) bool {
	return command == "insert" || command == "remove" || command == "plan"
}

// cpus is a set of 1024; where the machine has more the kernel refuses it, and nothing
// is done.
type cpus [16]uint64

// sysGetcpu is the number of getcpu(2) on x86-64, which package syscall does not have.
const sysGetcpu = 309

// before is what the process may run on, as it was started; empty when it was not
// changed. It is written once, by pie_entry or by init.
var before cpus

func init() {
	if before != (cpus{}) || !Beside(firstArgument()) {
		return
	}
	var cpu uint32
	if _, _, errno := syscall.RawSyscall(sysGetcpu, uintptr(unsafe.Pointer(&cpu)), 0, 0); errno != 0 || cpu >= 1024 {
		return
	}
	var all, one cpus
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(all), uintptr(unsafe.Pointer(&all))); errno != 0 {
		return
	}
	one[cpu/64] = 1 << (cpu % 64)
	before = all
	setAll(&one)
}

// firstArgument is the one behind the program's name; empty where there is none.
func firstArgument() string {
	fd, err := syscall.Open("/proc/self/cmdline", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer func() { _ = syscall.Close(fd) }()
	var line [4096]byte
	n, err := syscall.Read(fd, line[:])
	if err != nil || n <= 0 {
		return ""
	}
	from, arguments := 0, 0
	for i, c := range line[:n] {
		if c != 0 {
			continue
		}
		if arguments == 1 {
			return string(line[from:i])
		}
		from, arguments = i+1, arguments+1
	}
	return ""
}

// Over lets all threads run on every CPU again that the process was started with.
func Over() {
	if before != (cpus{}) {
		setAll(&before)
	}
}

// setAll gives all threads their CPUs; the calling one first, which others inherit from.
func setAll(to *cpus) {
	set(0, to)
	dir, err := syscall.Open("/proc/self/task", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer func() { _ = syscall.Close(dir) }()
	var entries [4096]byte
	for {
		n, err := syscall.ReadDirent(dir, entries[:])
		if err != nil || n <= 0 {
			return
		}
		_, _, names := syscall.ParseDirent(entries[:n], -1, nil)
		for _, name := range names {
			set(number(name), to)
		}
	}
}

// number reads a thread's name in its folder.
func number(digits string) (tid int) {
	for _, d := range digits {
		tid = tid*10 + int(d-'0')
	}
	return tid
}

// set gives a thread, 0 being the calling one, its CPUs. One that has ended needs none.
func set(tid int, to *cpus) {
	_, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, uintptr(tid), unsafe.Sizeof(*to), uintptr(unsafe.Pointer(to)))
}
