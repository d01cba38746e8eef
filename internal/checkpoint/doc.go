// Package checkpoint keeps rounds of the state of a collector on disk.
//
// A Round is one file: the state of each part of a collector, each part at a
// position of the log of its own, taken one after the other while the collector
// works. It is written under another name, made safe, and only then given its
// name, so a file with that name was once complete; whether it still is, its
// checksums say. A Folder keeps the newest two rounds: if the newer one is
// damaged the older one still works, for the log is kept from where that one
// needs it.
//
// # Format
//
// All numbers are little endian. A round begins with
//
//	8 bytes  "whorl-cp"
//	u32      format, 1
//	u32      number of bytes of the epoch, then the epoch
//	u64      number of the round
//	i64      when it was begun, Unix nanoseconds
//	u32      CRC-32C of all before
//
// and goes on with blocks:
//
//	u8       kind: 1 head, 2 shard, 3 analyst, 255 end
//	u8       packing: 0 none, 1 S2
//	u16      0
//	u32      index, of a shard
//	u64      position of the log up to which the block holds everything
//	u64      number of bytes of the content, unpacked
//	u64      number of bytes of the content in the file
//	u32      CRC-32C of the 32 bytes before
//	         the content
//	u32      CRC-32C of the content in the file
//
// The end block holds the Summary; nothing follows it. The package knows
// nothing of what is in the other blocks.
package checkpoint
