package clock

// rdtsc reads the counter after all earlier loads (lfence; rdtsc).
func rdtsc() uint64
