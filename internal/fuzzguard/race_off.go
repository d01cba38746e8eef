//go:build !race

package fuzzguard

const raceTime, raceMemory = 1, 1
