// Package packaging holds no code: it is the files that a distribution puts beside
// the commands, the agent's unit and an example of its policy. Its test holds what
// the unit must keep.
package packaging
