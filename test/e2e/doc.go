// Package e2e guards real servers end to end.
//
// Each case starts a real vulnerable server, keeps at least eight clients running
// its normal workload without pause and checking the content of every reply,
// inserts the shipped prepatches with the pie command, sends each attack a hundred
// times among them, and takes the prepatches out. It holds that
//
//   - the same attack kills the server when no guard is in, else the case proves nothing;
//   - the load would notice one lost reply and one reply 20 ms late;
//   - the same processes are alive, no normal request was lost, every attack is an event;
//   - after removal every text segment equals its file again.
//
// The servers come from servers.sh, which builds them from Debian's packages and
// the Go module proxy and caches them.
package e2e
