package agent

import "golang.org/x/sys/unix"

// rights are the capabilities that an agent uses, with what it cannot do without each.
// Without the blind ones it does not see, or cannot guard, programs that a rule is about.
var rights = []struct {
	number uint
	name   string
	blind  bool
	lost   string
}{
	{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE", true, "programs of other users are not seen"},
	{unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE", true, "programs of other users cannot be guarded"},
	{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", false, "new processes are not held, and no process under a seccomp filter is guarded"},
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", false, "older kernels tell of no exec, and on a busy machine some are missed"},
	{unix.CAP_SYS_NICE, "CAP_SYS_NICE", false, "on a busy machine processes stand still, and are held, for longer"},
	{unix.CAP_IPC_LOCK, "CAP_IPC_LOCK", false, "where memory is short processes stand still, and are held, for longer"},
	{unix.CAP_SYS_RESOURCE, "CAP_SYS_RESOURCE", false, "the limits of other users' processes are not known beforehand"},
}

// missingRights are the names of those that this process has not, with what is lost.
func missingRights() (names, lost []string, blind bool) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if unix.Capget(&header, &sets[0]) != nil {
		return nil, nil, false
	}
	for _, r := range rights {
		if sets[r.number/32].Effective&(1<<(r.number%32)) == 0 {
			names, lost = append(names, r.name), append(lost, r.lost)
			blind = blind || r.blind
		}
	}
	return names, lost, blind
}
