//go:build race

package insert

// raceDetector makes every spy start a second slower.
const raceDetector = true
