//go:build race

package fuzzguard

const raceTime, raceMemory = 10, 2
