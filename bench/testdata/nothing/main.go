// Nothing is what a Go program costs others by being one: its runtime starts threads, and
// ends.
package main

func main() {}
