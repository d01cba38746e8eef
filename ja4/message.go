package ja4

// Transport says what carried a handshake message. Its byte is the first
// character of a JA4 or JA4S value. The zero Transport is invalid.
type Transport byte

// The transports.
const (
	TLS  Transport = 't' // TLS records on a byte stream
	QUIC Transport = 'q' // CRYPTO frames
	DTLS Transport = 'd' // DTLS records in datagrams
)

// MessageType is a TLS handshake type (IANA "TLS HandshakeType").
type MessageType uint8

// The handshake types that a fingerprint, or the end of a handshake, needs.
const (
	MessageClientHello           MessageType = 1
	MessageServerHello           MessageType = 2
	MessageHelloVerifyRequest    MessageType = 3
	MessageEncryptedExtensions   MessageType = 8
	MessageCertificate           MessageType = 11
	MessageServerHelloDone       MessageType = 14
	MessageClientKeyExchange     MessageType = 16
	MessageFinished              MessageType = 20
	MessageKeyUpdate             MessageType = 24
	MessageCompressedCertificate MessageType = 25
)

// Message is one complete handshake message.
type Message struct {
	Transport Transport
	Type      MessageType
	// Body is the message without its header, as TLS has it (a DTLS hello
	// keeps its cookie field). It is lent: valid during the callback only.
	Body []byte
}

// MaxHandshakeBytes bounds the handshake bytes that a stream takes from one
// direction of a connection, and so what it may have to hold at once.
const MaxHandshakeBytes = 64 << 10

// Status says whether a stream wants more.
type Status uint8

const (
	// StatusMore: give it what comes next.
	StatusMore Status = iota
	// StatusDone: nothing that is in clear will follow in this direction. The
	// stream has let go of its memory and ignores what it is given.
	StatusDone
	// StatusInvalid: the bytes are not, or no longer, this protocol. Messages
	// emitted before stand. The stream ignores what it is given.
	StatusInvalid
	// StatusTooLarge: the handshake goes beyond MaxHandshakeBytes or another
	// bound of the stream, which has given up and ignores what it is given.
	StatusTooLarge
)

// String returns "more", "done", "invalid" or "too-large".
func (s Status) String() string {
	switch s {
	case StatusMore:
		return "more"
	case StatusDone:
		return "done"
	case StatusInvalid:
		return "invalid"
	default:
		return "too-large"
	}
}

// Guess is the answer of a protocol test that may have seen too little.
type Guess uint8

// The guesses.
const (
	No Guess = iota
	NeedMore
	Yes
)
