//go:build !race

package insert

const raceDetector = false
