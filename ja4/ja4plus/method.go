package ja4plus

// maxMethodBytes is the length of the longest method that is taken for one;
// the longest that has a code has 17.
const maxMethodBytes = 32

// methodCode returns the two letters of an HTTP method, compared without
// regard to case, or "" for a method that has none.
//
// Source: JA4H.md for the nine of RFC 9110 and RFC 5789; the others are those
// of FoxIO's Wireshark plugin: WebDAV (RFC 4918, 3253, 3648, 3744, 5323, 5842,
// 4437), UPnP, and what caches use.
func methodCode[T text](method T) string {
	if len(method) > maxMethodBytes {
		return ""
	}
	var upper [maxMethodBytes]byte
	n := copy(upper[:], method)
	for i, c := range upper[:n] {
		if c >= 'a' && c <= 'z' {
			upper[i] = c &^ 0x20
		}
	}
	switch string(upper[:n]) {
	case "GET":
		return "ge"
	case "HEAD":
		return "he"
	case "OPTIONS":
		return "op"
	case "TRACE":
		return "tr"
	case "DELETE":
		return "de"
	case "PUT":
		return "pu"
	case "POST":
		return "po"
	case "PATCH":
		return "pa"
	case "CONNECT":
		return "co"
	case "PROPFIND":
		return "pf"
	case "PROPPATCH":
		return "pp"
	case "MKCOL":
		return "ml"
	case "COPY":
		return "cy"
	case "MOVE":
		return "mo"
	case "LOCK":
		return "lo"
	case "UNLOCK":
		return "uo"
	case "REPORT":
		return "rp"
	case "SEARCH":
		return "se"
	case "M-SEARCH":
		return "ms"
	case "NOTIFY":
		return "no"
	case "SUBSCRIBE":
		return "su"
	case "UNSUBSCRIBE":
		return "un"
	case "MERGE":
		return "me"
	case "LINK":
		return "li"
	case "UNLINK":
		return "ui"
	case "PURGE", "PRI":
		return "pr"
	case "BIND":
		return "bi"
	case "REBIND":
		return "rb"
	case "UNBIND":
		return "ub"
	case "ACL":
		return "ac"
	case "LABEL":
		return "la"
	case "UPDATE":
		return "up"
	case "CHECKIN":
		return "cn"
	case "CHECKOUT":
		return "ct"
	case "UNCHECKOUT":
		return "uc"
	case "MKACTIVITY":
		return "ma"
	case "MKCALENDAR":
		return "mc"
	case "MKWORKSPACE":
		return "mw"
	case "MKREDIRECTREF":
		return "mr"
	case "UPDATEREDIRECTREF":
		return "ur"
	case "BASELINE-CONTROL":
		return "ba"
	case "VERSION-CONTROL":
		return "ve"
	}
	return ""
}
