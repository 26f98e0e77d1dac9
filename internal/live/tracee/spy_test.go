package tracee

func spyMain() bool { return false }
