//go:build !race

package wire

// raceDetector is false in an ordinary test.
const raceDetector = false
