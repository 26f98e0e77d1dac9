package main

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const timeout = 20 * time.Millisecond

// states gives, for a thread, what one of its rounds is.
var states = map[string]func(i int) func(round int){
	"read": reads, "net": netpoll, "spawn": spawns, "clone": threadsThatEnd, "compute": computes, "go": grows,
	"recv": receives, "accept": accepts, "epoll": epolls, "io_uring": rings, "signals": profiled, "waitpid": waits,
	"semtimedop": semaphores, "io_getevents": events,
	"poll": timed("poll", 0, func() (uintptr, syscall.Errno) {
		return call6(unix.SYS_POLL, 0, 0, uintptr(timeout.Milliseconds()), 0)
	}),
	"select": timed("select", 0, func() (uintptr, syscall.Errno) {
		t := unix.NsecToTimeval(int64(timeout))
		return call6(unix.SYS_SELECT, 0, 0, 0, 0, uintptr(unsafe.Pointer(&t)))
	}),
	"futex": timed("futex", unix.ETIMEDOUT, func() (uintptr, syscall.Errno) {
		var word uint32
		t := unix.NsecToTimespec(int64(timeout))
		return call6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&word)), 0, 0, uintptr(unsafe.Pointer(&t)))
	}),
	"nanosleep": timed("nanosleep", 0, func() (uintptr, syscall.Errno) {
		t := unix.NsecToTimespec(int64(timeout))
		return call6(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0)
	}),
	"nanosleep_abs": timed("clock_nanosleep", 0, func() (uintptr, syscall.Errno) {
		var t unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
		t = unix.NsecToTimespec(t.Nano() + int64(timeout))
		return call6(unix.SYS_CLOCK_NANOSLEEP, unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, uintptr(unsafe.Pointer(&t)), 0)
	}),
	"sigtimedwait": timed("sigtimedwait", unix.EAGAIN, func() (uintptr, syscall.Errno) {
		set := uint64(1) << (unix.SIGUSR2 - 1)
		t := unix.NsecToTimespec(int64(timeout))
		return call6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&set)), 0, uintptr(unsafe.Pointer(&t)), 8)
	}),
}

func call6(nr uintptr, a ...uintptr) (uintptr, syscall.Errno) {
	var b [6]uintptr
	copy(b[:], a)
	r, _, errno := unix.Syscall6(nr, b[0], b[1], b[2], b[3], b[4], b[5])
	return r, errno
}

// timed wants a call to run into its timeout. The runtime's own signals may
// interrupt some.
func timed(name string, want syscall.Errno, do func() (uintptr, syscall.Errno)) func(int) func(int) {
	return func(int) func(int) {
		return func(int) {
			began := time.Now()
			r, errno := do()
			took := time.Since(began)
			if errno == unix.EINTR {
				return
			}
			if errno != want || errno == 0 && r != 0 || took < timeout-5*time.Millisecond {
				wrong("%s: %d, %v after %v", name, r, errno, took)
			}
		}
	}
}

func must(err error) {
	if err != nil {
		wrong("%v", err)
	}
}

func reads(int) func(int) {
	var p [2]int
	must(unix.Pipe(p[:]))
	go func() {
		b := make([]byte, 8)
		for n := uint64(0); ; n++ {
			time.Sleep(2 * time.Millisecond)
			binary.LittleEndian.PutUint64(b, n)
			if _, err := unix.Write(p[1], b); err != nil {
				wrong("write: %v", err)
			}
		}
	}()
	return func(round int) {
		b := make([]byte, 8)
		n, err := unix.Read(p[0], b)
		if got := binary.LittleEndian.Uint64(b); err != nil || n != 8 || got != uint64(round) {
			wrong("read: %d, %v: %d instead of %d", n, err, got, round)
		}
	}
}

// netpoll is a goroutine in the runtime's own epoll_wait.
func netpoll(int) func(int) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(err)
	return func(int) {
		began := time.Now()
		must(c.SetReadDeadline(began.Add(timeout)))
		if _, _, err := c.ReadFrom(make([]byte, 8)); !os.IsTimeout(err) || time.Since(began) < timeout {
			wrong("a read with a deadline: %v after %v", err, time.Since(began))
		}
	}
}

func epolls(int) func(int) {
	fd, err := unix.EpollCreate1(0)
	must(err)
	return timed("epoll_wait", 0, func() (uintptr, syscall.Errno) {
		var ev [1]unix.EpollEvent
		return call6(unix.SYS_EPOLL_PWAIT, uintptr(fd), uintptr(unsafe.Pointer(&ev)), 1, uintptr(timeout.Milliseconds()), 0, 8)
	})(0)
}

func socket(kind int) int {
	fd, err := unix.Socket(unix.AF_INET, kind, 0)
	must(err)
	t := unix.NsecToTimeval(int64(timeout))
	must(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &t))
	must(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	return fd
}

func receives(int) func(int) {
	fd := socket(unix.SOCK_DGRAM)
	return timed("recvfrom", unix.EAGAIN, func() (uintptr, syscall.Errno) {
		var b [8]byte
		return call6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b)), 8)
	})(0)
}

func accepts(int) func(int) {
	fd := socket(unix.SOCK_STREAM)
	must(unix.Listen(fd, 1))
	return timed("accept4", unix.EAGAIN, func() (uintptr, syscall.Errno) {
		return call6(unix.SYS_ACCEPT4, uintptr(fd))
	})(0)
}

// semaphores are in a namespace of their own (for root): they end with the thread.
func semaphores(int) func(int) {
	var id uintptr
	return func(round int) {
		if round == 0 {
			_ = unix.Unshare(unix.CLONE_NEWIPC)
			var errno syscall.Errno
			if id, errno = call6(unix.SYS_SEMGET, 0, 1, 0o600); errno != 0 {
				wrong("semget: %v", errno)
			}
		}
		timed("semtimedop", unix.EAGAIN, func() (uintptr, syscall.Errno) {
			op := [3]int16{0, -1, 0}
			t := unix.NsecToTimespec(int64(timeout))
			return call6(unix.SYS_SEMTIMEDOP, id, uintptr(unsafe.Pointer(&op)), 1, uintptr(unsafe.Pointer(&t)))
		})(0)(round)
	}
}

func events(int) func(int) {
	var context uintptr
	if _, errno := call6(unix.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&context))); errno != 0 {
		wrong("io_setup: %v", errno)
	}
	return timed("io_getevents", 0, func() (uintptr, syscall.Errno) {
		var ev [4]uint64
		t := unix.NsecToTimespec(int64(timeout))
		return call6(unix.SYS_IO_GETEVENTS, context, 1, 1, uintptr(unsafe.Pointer(&ev)), uintptr(unsafe.Pointer(&t)))
	})(0)
}

// rings are empty: nothing ever completes, and the wait has a timeout.
func rings(int) func(int) {
	var params [120]byte // struct io_uring_params
	fd, errno := call6(unix.SYS_IO_URING_SETUP, 4, uintptr(unsafe.Pointer(&params)))
	if errno != 0 {
		wrong("io_uring_setup: %v", errno)
	}
	const getEvents, extArg = 1, 8
	return timed("io_uring_enter", unix.ETIME, func() (uintptr, syscall.Errno) {
		t := unix.NsecToTimespec(int64(timeout))
		arg := struct{ mask, maskSize, time uint64 }{0, 8, uint64(uintptr(unsafe.Pointer(&t)))} // struct io_uring_getevents_arg
		return call6(unix.SYS_IO_URING_ENTER, fd, 0, 1, getEvents|extArg, uintptr(unsafe.Pointer(&arg)), unsafe.Sizeof(arg))
	})(0)
}

// profiled grows stacks while SIGPROF arrives.
func profiled(i int) func(int) {
	if i == 0 {
		must(pprof.StartCPUProfile(io.Discard))
	}
	return grows(i)
}

func waits(int) func(int) { return starts("/bin/sleep", "0.02") }

// spawns has a parent that waits in clone(CLONE_VM|CLONE_VFORK), and in wait4.
func spawns(int) func(int) { return starts("/bin/true") }

func starts(args ...string) func(int) {
	return func(int) {
		pid, err := syscall.ForkExec(args[0], args, &syscall.ProcAttr{})
		must(err)
		var ws syscall.WaitStatus
		for {
			_, err = syscall.Wait4(pid, &ws, 0, nil)
			if err != syscall.EINTR {
				break
			}
		}
		if err != nil || ws != 0 {
			wrong("wait4: %v, status %v", err, ws)
		}
	}
}

// threadsThatEnd pauses in between: handed from thread to thread without an end, the few
// processors may not come to the other goroutines for seconds.
func threadsThatEnd(int) func(int) {
	return func(round int) {
		time.Sleep(2 * time.Millisecond)
		done := make(chan int)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends
			done <- round
		}()
		if got := <-done; got != round {
			wrong("thread: %d instead of %d", got, round)
		}
	}
}

func computes(i int) func(int) {
	return func(round int) {
		a, f := uint64(round+i), 1.0
		for range 50000 {
			a, f = a*6364136223846793005+1442695040888963407, f*1.0000001
		}
		b, g := uint64(round+i), 1.0
		for range 50000 {
			b, g = b*6364136223846793005+1442695040888963407, g*1.0000001
		}
		if a != b || f != g {
			wrong("computed %d and %d, %v and %v", a, b, f, g)
		}
	}
}

// grows has goroutines come and go, whose stacks grow.
func grows(int) func(int) {
	return func(round int) {
		done := make(chan uint64)
		go func() { done <- deep(50+round%100, uint64(round)) }()
		if got := <-done; got != uint64(round) {
			wrong("goroutine: %d instead of %d", got, round)
		}
		if round%20 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

// deep looks at every frame on the way back.
//
//go:noinline
func deep(n int, canary uint64) uint64 {
	var local [16]uint64
	for i := range local {
		local[i] = canary + uint64(i)
	}
	if n > 0 {
		deep(n-1, canary+1)
	}
	for i := range local {
		if local[i] != canary+uint64(i) {
			wrong("frame %d", n)
		}
	}
	return canary
}
