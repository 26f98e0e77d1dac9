// Package hosts tests guards in every kind of program: how it was built, what it
// runs on, what it forbids itself, and what it does while it is being guarded.
//
// Each host calls one function as fast as it can, checks every result against an
// oracle, and counts in memory that the test reads. A guard goes in and out again
// under that load; no result may be wrong, attacks are rejected while it is in and
// at no other time, and afterwards the code equals its files.
package hosts
