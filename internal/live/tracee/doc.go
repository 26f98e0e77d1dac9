// Package tracee is PIE's hand in another process: the only package that
// issues ptrace requests or writes another process's memory.
//
// # What it promises
//
// A process that is touched here survives the death of the toucher. Between
// any two system calls of this package the calling process may be killed,
// stopped, or frozen; the target then goes on within 0.6 s, exactly as if it
// had never been touched, or with one whole write applied.
//
//   - Tracees are seized, never with PTRACE_O_EXITKILL: the kernel lets them
//     go when the tracer's thread ends, and a pending interrupt goes with it.
//   - A remote system call runs on a signal frame that the thread returns
//     through by itself (Attached.Syscall, sigframe.go): whoever stops
//     watching half-way leaves a thread that restores its own registers,
//     signal mask and vector state.
//     A thread that is alone is left to do so on purpose (alone.go).
//   - A write never spans two pages (World.Write): a writer killed between
//     two pages would leave half a jump.
//   - A separate process kills the tracer when 500 ms pass between the first
//     interrupt and the last resume (watchdog.go): a tracer that is stopped,
//     frozen or waiting for a page lets nobody go by itself.
//   - An interrupt is not visible to the program: system calls that return
//     EINTR to a mere stop are restarted by the kernel's own restart logic
//     (interrupted.go), unless a real signal has arrived.
//
// # What it cannot hide
//
// Each of these a plain SIGSTOP and SIGCONT of the process would do as well:
//
//   - A tracer killed in the microseconds between an interrupt and the next
//     two requests leaves the EINTR of such a system call visible.
//   - A call that is made again begins its relative timeout anew. The calls
//     with a restart_block (nanosleep, poll, futex …) keep what was left,
//     unless the tracer was killed inside a remote system call.
//   - A large write or send that was in the middle returns what it had
//     transferred.
//
// A cgroup v1 freezer that freezes the tracer freezes its watchdog too; what
// was stopped then stays stopped until it is thawed.
//
// # How it is built
//
// Process is an identity (pidfd, start time, inode of the executable) and
// what can be read without stopping anyone. Tracer owns one OS thread, which
// issues every ptrace request; Attach and StopWorld run the caller's function
// on that thread, so that no hand-over to another thread lengthens the stop
// and no caller can forget to resume. Between the first interrupt and the
// last resume that function must not allocate, lock, log or do I/O.
//
// Everything read from the target or from /proc about it is input from an
// enemy; package proc reads most of it.
//
// Sources: ptrace(2), proc(5), signal(7), rt_sigreturn(2), seccomp(2), rseq(2)
// and the kernel's arch/x86/include/uapi/asm/sigcontext.h.
package tracee
