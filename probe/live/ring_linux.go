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

	block  uint32 // the block being read, or to be read next
	left   uint32 // packets of it not lent yet
	offset uint32 // of the next packet in it
	held   bool   // block belongs to us and must be given back

	mu        sync.Mutex // guards stats, and fd between Stats and Close
	stats     Stats
	dropsBase uint64 // the interface's own counter when the ring was opened
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
	b, err := os.ReadFile("/sys/class/net/" + name + "/type")
	if err != nil {
		if strings.ContainsAny(name, "/\x00") || errors.Is(err, os.ErrNotExist) {
			return 0, fmt.Errorf("capture on %s: %w", name, ErrNoInterface)
		}
		return 0, fmt.Errorf("capture on %s: %w", name, err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("capture on %s: hardware type %q: %w", name, b, err)
	}
	switch n {
	case arphrdEther, arphrdLoopback:
		return capture.Ethernet, nil
	case arphrdNone, arphrdPPP, arphrdTunnel, arphrdTunnel6, arphrdSIT, arphrdRawIP:
		return capture.Raw, nil
	}
	return 0, fmt.Errorf("capture on %s: hardware type %d is not supported, want Ethernet, loopback or a raw IP device", name, n)
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
	r := &Ring{name: c.Interface, link: link, loopback: iface.Flags&net.FlagLoopback != 0, blocks: blocks, fd: -1}
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
	if err = attach(r.fd, c.Filter); err != nil {
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
	r.dropsBase = interfaceDrops(r.name)
	addr := unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: iface.Index}
	if err = unix.Bind(r.fd, &addr); err != nil {
		return nil, err
	}
	if c.Fanout != nil {
		// By flow hash; fragments are put together first so that they stay
		// with their flow.
		arg := int(c.Fanout.Group) | (unix.PACKET_FANOUT_HASH|unix.PACKET_FANOUT_FLAG_DEFRAG)<<16
		if err = unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_FANOUT, arg); err != nil {
			return nil, fmt.Errorf("fan-out: %w", err)
		}
	}
	return r, nil
}

var fanoutGroups atomic.Uint32

// NewFanout returns a group that no other of this process has.
func NewFanout() *Fanout {
	return &Fanout{Group: uint16(os.Getpid()) + uint16(fanoutGroups.Add(1))}
}

func attach(fd int, filter []bpf.Instruction) error {
	if filter == nil {
		return nil
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

// nextBlock gives the read block back to the kernel and waits for a full one.
func (r *Ring) nextBlock() error {
	if r.held {
		r.status(r.block).Store(unix.TP_STATUS_KERNEL)
		r.held = false
		r.block = (r.block + 1) % r.blocks
	}
	for range 2 {
		if r.status(r.block).Load()&unix.TP_STATUS_USER != 0 {
			d := r.descriptor(r.block)
			r.left, r.offset, r.held = d.Num_pkts, d.Offset_to_first_pkt, true
			return nil
		}
		fds := []unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN | unix.POLLERR}}
		_, err := unix.Poll(fds, int(idlePoll/time.Millisecond))
		switch {
		case err != nil && err != unix.EINTR:
			return fmt.Errorf("capture on %s: poll: %w", r.name, err)
		case fds[0].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0:
			// POLLERR alone may be a passing state such as ENETDOWN: read it.
			if code, _ := unix.GetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_ERROR); code != 0 {
				return fmt.Errorf("capture on %s: %w", r.name, unix.Errno(code))
			}
		}
	}
	return capture.ErrIdle
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
	if n := interfaceDrops(r.name); n > r.dropsBase {
		r.stats.DroppedInterface = n - r.dropsBase
	}
}

func interfaceDrops(name string) (n uint64) {
	for _, f := range []string{"rx_dropped", "rx_missed_errors"} {
		b, err := os.ReadFile("/sys/class/net/" + name + "/statistics/" + f)
		if err != nil {
			continue
		}
		if v, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64); err == nil {
			n += v
		}
	}
	return n
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
