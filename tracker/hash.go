package tracker

import "math/bits"

// secret keys a hash of keys. Two of them are in use: one made of
// Config.HashSeed and a network's label, which chooses the shard and must be
// the same for good, and one of each process, which chooses bucket and tag
// inside a shard, so that nobody can choose addresses that meet in one bucket.
type secret [5]uint64

// newSecret stretches a seed (SplitMix64).
func newSecret(seed uint64) (s secret) {
	for i := range s {
		seed += 0x9e3779b97f4a7c15
		z := seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		s[i] = z ^ z>>31
	}
	return s
}

// fold multiplies to 128 bits and folds them into 64.
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// hash mixes all words of a key with those of the secret: the method of wyhash,
// which the runtime's own maps use where there is no AES.
func (s *secret) hash(k *keyIn) uint64 {
	x := fold(k.a[0]^s[0], k.a[1]^s[1])
	y := fold(k.b[0]^s[2], k.b[1]^s[3])
	return fold(x^s[4]^k.ends, y^s[0])
}
