package live

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/whorl-net/whorl/probe/capture"
)

const (
	// retireMillis bounds how long a packet waits in a block that does not
	// fill: short enough for a feed that feels live, long enough to batch.
	retireMillis = 40
	// idlePoll is how long Next waits before it returns capture.ErrIdle.
	idlePoll = 100 * time.Millisecond

	packetIgnoreOutgoing = 23 // PACKET_IGNORE_OUTGOING, Linux 4.20
	statusVLANValid      = unix.TP_STATUS_VLAN_VALID

	arphrdEther    = 1
	arphrdLoopback = 772
	arphrdPPP      = 512
	arphrdNone     = 0xfffe
	arphrdTunnel   = 768
	arphrdTunnel6  = 769
	arphrdSIT      = 776
	arphrdRawIP    = 519
)

// Ring is one open queue. Next and Close belong to one goroutine, which need
// not fear to be stuck: Next returns within 100 ms. Stats may be called from
// any goroutine.
type Ring struct {
	name     string
	link     capture.LinkType
	loopback bool
	fd       int
	memory   []byte
	blocks   uint32
	ignored  bool // the kernel leaves outgoing packets out
	index    int  // of the interface

	block  uint32 // the block being read, or to be read next
	left   uint32 // packets of it not lent yet
	offset uint32 // of the next packet in it
	held   bool   // block belongs to us and must be given back

	mu        sync.Mutex // guards stats, and fd between Stats and Close
	stats     Stats
	dropsBase uint64 // the interface's own counter when the ring was opened
	// countsInterface: of the rings of a group one reports the interface.
	countsInterface bool
}

// Open makes a ring on the interface and starts it. The socket receives
// nothing before filter and ring stand, so no foreign packet leaks in.
func Open(c Config) (*Ring, error) {
	r, err := open(c)
	if err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			err = ErrNotPermitted
		}
		return nil, fmt.Errorf("capture on %s: %w", c.Interface, err)
	}
	return r, nil
}

// LinkType returns the link type of an interface, for which a filter must be
// compiled.
func LinkType(name string) (capture.LinkType, error) {
	n, err := hardware(name)
	if err != nil {
		return 0, fmt.Errorf("capture on %s: %w", name, err)
	}
	switch n {
	case arphrdEther, arphrdLoopback:
		return capture.Ethernet, nil
	case arphrdNone, arphrdPPP, arphrdTunnel, arphrdTunnel6, arphrdSIT, arphrdRawIP:
		return capture.Raw, nil
	}
	return 0, fmt.Errorf("capture on %s: hardware type %d is not supported, want Ethernet, loopback or a raw IP device", name, n)
}

// hardware asks the kernel for the ARPHRD type of an interface. (The files
// under /sys are those of another network namespace inside nsenter.)
func hardware(name string) (uint16, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, ErrNoInterface
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	switch err := unix.IoctlIfreq(fd, unix.SIOCGIFHWADDR, req); {
	case errors.Is(err, unix.ENODEV):
		return 0, ErrNoInterface
	case err != nil:
		return 0, fmt.Errorf("hardware type: %w", err)
	}
	return req.Uint16(), nil
}

func open(c Config) (_ *Ring, err error) {
	blocks, err := c.blocks()
	if err != nil {
		return nil, err
	}
	iface, err := net.InterfaceByName(c.Interface)
	if err != nil {
		return nil, ErrNoInterface
	}
	link, err := LinkType(c.Interface)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	r := &Ring{name: c.Interface, link: link, loopback: iface.Flags&net.FlagLoopback != 0, index: iface.Index, blocks: blocks, fd: -1}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if r.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, err
	}
	if err = unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return nil, fmt.Errorf("TPACKET_V3: %w", err)
	}
	if r.loopback && c.Fanout == nil {
		// Each packet passes a loopback twice; tcpdump too shows it once. A
		// fan-out group does not inherit the option: lend leaves them out.
		r.ignored = unix.SetsockoptInt(r.fd, unix.SOL_PACKET, packetIgnoreOutgoing, 1) == nil
	}
	// Nothing passes before everything stands: a ring of a fan-out group would
	// otherwise see the packets of the whole interface until it has joined.
	if err = attach(r.fd, []bpf.Instruction{bpf.RetConstant{Val: 0}}); err != nil {
		return nil, fmt.Errorf("capture filter: %w", err)
	}
	req := unix.TpacketReq3{
		Block_size: blockBytes, Block_nr: blocks,
		Frame_size: 2048, Frame_nr: blocks * (blockBytes / 2048),
		Retire_blk_tov: retireMillis,
	}
	if err = unix.SetsockoptTpacketReq3(r.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return nil, fmt.Errorf("ring of %d MiB: %w", blocks, err)
	}
	r.memory, err = unix.Mmap(r.fd, 0, int(blocks)*blockBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the ring of %d MiB: %w", blocks, err)
	}
	if !r.loopback && !c.NoPromiscuous {
		mreq := unix.PacketMreq{Ifindex: int32(iface.Index), Type: unix.PACKET_MR_PROMISC}
		if err = unix.SetsockoptPacketMreq(r.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq); err != nil {
			return nil, fmt.Errorf("promiscuous mode: %w", err)
		}
	}
	addr := unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: iface.Index}
	if err = unix.Bind(r.fd, &addr); err != nil {
		return nil, err
	}
	r.countsInterface = true
	if c.Fanout != nil {
		if r.countsInterface, err = c.Fanout.join(r.fd); err != nil {
			return nil, fmt.Errorf("fan-out: %w", err)
		}
	}
	r.dropsBase = interfaceDrops(r.name)
	if err = attach(r.fd, c.Filter); err != nil {
		return nil, fmt.Errorf("capture filter: %w", err)
	}
	return r, nil
}

const fanoutUnique = 0x2000 // PACKET_FANOUT_FLAG_UNIQUEID, Linux 4.12

// join puts a bound socket into the group. The first one makes the group, with
// an id that the kernel chooses: nobody else on the network namespace has it.
// It reports whether this was the first.
func (f *Fanout) join(fd int) (first bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	// By flow hash; fragments are put together first so that they stay with
	// their flow.
	mode := unix.PACKET_FANOUT_HASH | unix.PACKET_FANOUT_FLAG_DEFRAG
	if f.made {
		return false, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT, f.id|mode<<16)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT, (mode|fanoutUnique)<<16); err != nil {
		return false, err
	}
	v, err := unix.GetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
	if err != nil {
		return false, err
	}
	f.id, f.made = v&0xffff, true
	return true, nil
}

func attach(fd int, filter []bpf.Instruction) error {
	if filter == nil {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
	}
	raw, err := bpf.Assemble(filter)
	if err != nil {
		return err
	}
	code := make([]unix.SockFilter, len(raw))
	for i, in := range raw {
		code[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]})
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// LinkType returns the link type of every packet of r.
func (r *Ring) LinkType() capture.LinkType { return r.link }

// Next lends the next packet. It returns capture.ErrIdle when none came for
// 100 ms, and ErrClosed after Close.
func (r *Ring) Next(p *capture.Packet) error {
	if r.memory == nil {
		return ErrClosed
	}
	for {
		if r.left == 0 {
			if err := r.nextBlock(); err != nil {
				return err
			}
			continue
		}
		if r.lend(p) {
			return nil
		}
	}
}

// NextBlock implements capture.BlockSource. It lends what the kernel has handed
// over together.
func (r *Ring) NextBlock(ps []capture.Packet) (int, error) {
	if err := r.Next(&ps[0]); err != nil {
		return 0, err
	}
	n := 1
	for n < len(ps) && r.left > 0 {
		if r.lend(&ps[n]) {
			n++
		}
	}
	return n, nil
}

// nextBlock gives the read block back to the kernel and waits for a full one.
func (r *Ring) nextBlock() error {
	if r.held {
		r.status(r.block).Store(unix.TP_STATUS_KERNEL)
		r.held = false
		r.block = (r.block + 1) % r.blocks
	}
	if r.take() {
		return nil
	}
	fds := []unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN | unix.POLLERR}}
	_, err := unix.Poll(fds, int(idlePoll/time.Millisecond))
	switch {
	case err != nil && err != unix.EINTR:
		return fmt.Errorf("capture on %s: poll: %w", r.name, err)
	case fds[0].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0:
		if err := r.trouble(); err != nil {
			return err
		}
	}
	if r.take() {
		return nil
	}
	return capture.ErrIdle
}

// take makes the next block ours if the kernel has filled it.
func (r *Ring) take() bool {
	if r.status(r.block).Load()&unix.TP_STATUS_USER == 0 {
		return false
	}
	d := r.descriptor(r.block)
	r.left, r.offset, r.held = d.Num_pkts, d.Offset_to_first_pkt, true
	return true
}

// trouble reads what the socket has to report. An interface that went down may
// come up again, and capture goes on then; one that is gone does not.
func (r *Ring) trouble() error {
	code, _ := unix.GetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case code == 0:
		return nil
	case unix.Errno(code) != unix.ENETDOWN:
		return fmt.Errorf("capture on %s: %w", r.name, unix.Errno(code))
	}
	if i, err := net.InterfaceByIndex(r.index); err != nil || i.Name != r.name {
		return fmt.Errorf("capture on %s: %w any more", r.name, ErrNoInterface)
	}
	return nil
}

// lend fills p from the packet at offset. It reports false for one that is
// left out: an outgoing packet of a loopback.
func (r *Ring) lend(p *capture.Packet) bool {
	block := r.memory[int(r.block)*blockBytes : (int(r.block)+1)*blockBytes]
	h := (*unix.Tpacket3Hdr)(unsafe.Pointer(&block[r.offset]))
	from := r.offset
	r.left--
	r.offset += h.Next_offset
	if r.loopback && !r.ignored {
		ll := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&block[from+tpacketAlign(unix.SizeofTpacket3Hdr)]))
		if ll.Pkttype == unix.PACKET_OUTGOING {
			return false
		}
	}
	start := from + uint32(h.Mac)
	p.Data = block[start : start+h.Snaplen : start+h.Snaplen]
	p.Time = int64(h.Sec)*1e9 + int64(h.Nsec)
	p.WireLength = h.Len
	p.LinkType = r.link
	p.VLAN = 0
	if h.Status&statusVLANValid != 0 {
		p.VLAN = 1 + h.Hv1.Vlan_tci
		p.WireLength += 4 // the tag was on the wire
	}
	return true
}

func tpacketAlign(n uint32) uint32 {
	return (n + unix.TPACKET_ALIGNMENT - 1) &^ (unix.TPACKET_ALIGNMENT - 1)
}

func (r *Ring) descriptor(i uint32) *unix.TpacketHdrV1 {
	// The block descriptor's header begins 8 bytes into the block: version and
	// offset to the private area come first.
	return (*unix.TpacketHdrV1)(unsafe.Pointer(&r.memory[int(i)*blockBytes+8]))
}

func (r *Ring) status(i uint32) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&r.descriptor(i).Block_status))
}

// Stats returns the counters so far. After Close it returns the last ones.
func (r *Ring) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.collectLocked()
	return r.stats
}

// collectLocked adds the kernel's counters, which start again at each reading.
func (r *Ring) collectLocked() {
	if r.fd < 0 {
		return
	}
	if s, err := unix.GetsockoptTpacketStatsV3(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		r.stats.Received += uint64(s.Packets)
		r.stats.DroppedKernel += uint64(s.Drops)
	}
	if n := interfaceDrops(r.name); r.countsInterface && n > r.dropsBase {
		r.stats.DroppedInterface = n - r.dropsBase
	}
}

// interfaceDrops reads what an interface has dropped on receipt, missed packets
// included, from /proc/net/dev, which is of our own network namespace.
func interfaceDrops(name string) uint64 {
	b, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		device, columns, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(device) != name {
			continue
		}
		if f := strings.Fields(columns); len(f) > 3 {
			n, _ := strconv.ParseUint(f[3], 10, 64) // bytes packets errs drop
			return n
		}
	}
	return 0
}

// Close lets the ring go. Packets that Next has lent are invalid from then on,
// and Next returns ErrClosed. Calling it again does nothing.
func (r *Ring) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fd < 0 {
		return nil
	}
	r.collectLocked()
	var err error
	if r.memory != nil {
		err = unix.Munmap(r.memory)
		r.memory, r.left, r.held = nil, 0, false
	}
	err = errors.Join(err, unix.Close(r.fd))
	r.fd = -1
	if err != nil {
		return fmt.Errorf("close capture on %s: %w", r.name, err)
	}
	return nil
}
