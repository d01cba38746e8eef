//go:build !race

package handshake

const raced = false
