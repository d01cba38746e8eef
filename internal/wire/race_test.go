//go:build race

package wire

// raceDetector is true in a test that runs under the race detector, which makes
// sync.Pool forget now and then.
const raceDetector = true
