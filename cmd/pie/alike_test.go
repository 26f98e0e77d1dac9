package main

import (
	"slices"
	"testing"
)

// What is said of many processes in the same words is said once, and who first was
// spoken of comes first.
func TestAlikes(t *testing.T) {
	var s alikes
	for pid := 812; pid < 912; pid++ {
		s.say(pid, "/usr/sbin/apache2", "slow")
	}
	s.say(3, "/usr/sbin/apache2", "other")
	s.say(4, "/usr/sbin/nginx", "slow")
	s.say(5, "", "slow")
	var got []string
	for _, a := range s {
		got = append(got, a.who()+": "+a.text)
	}
	want := []string{
		"pids 812 813 814 815 and 96 more (apache2): slow",
		"pid 3 (apache2): other", "pid 4 (nginx): slow", "pid 5: slow",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
