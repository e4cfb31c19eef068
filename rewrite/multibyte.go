package rewrite

import "strings"

// The tables of East Asian charsets differ between makers: rows that only some have, and characters that some decode to
// another one. What stands in the rows of the standard, without those characters, is the same for all.

// multibyte is the standard behind a label, "" for a charset of single bytes or of Unicode.
func (c charset) multibyte() string {
	switch c.label {
	case "gb2312", "gb_2312-80", "csgb2312", "iso-ir-58", "chinese", "euc-cn", "x-euc-cn":
		return "gb2312"
	case "gbk", "x-gbk", "cp936", "ms936", "windows-936":
		return "gbk"
	case "gb18030":
		return "gb18030"
	case "big5", "csbig5", "big5-hkscs", "x-x-big5", "cn-big5", "cp950":
		return "big5"
	case "shift_jis", "shift-jis", "sjis", "x-sjis", "ms_kanji", "csshiftjis", "windows-31j", "cp932", "ms932":
		return "shift_jis"
	case "euc-jp", "x-euc-jp", "cseucpkdfmtjapanese":
		return "euc-jp"
	case "iso-2022-jp", "csiso2022jp":
		return "iso-2022-jp"
	case "euc-kr", "cseuckr", "ks_c_5601-1987", "ks_c_5601", "ksc5601", "ksc_5601", "ks_c_5601-1989", "cp949", "windows-949", "korean":
		return "euc-kr"
	}
	return ""
}

// disputed are characters that makers decode differently, or that stand in for one another.
func disputed(standard string) string {
	switch standard {
	case "gb2312", "gbk", "gb18030":
		return "·・—―€ǹḿ︐︑︒︓︔︕︖︗︘︙"
	case "big5":
		return "•‧‾¯￣∼～⊕☉⊙♁╴ˍ﹑､¢£¥￠￡￥／∕＼﹨"
	case "euc-kr":
		return "ㅤ"
	}
	return "〜～‖∥−－¢￠£￡¬￢¦￤—―¯￣‾¥"
}

// portable tells whether all readers take b, which decodes to s, for s.
func (c charset) portable(b []byte, s string) bool {
	standard := c.multibyte()
	if standard == "" {
		return true
	}
	if strings.ContainsAny(s, disputed(standard)) || strings.ContainsFunc(s, private) {
		return false
	}
	if standard == "iso-2022-jp" {
		return portableJIS(b)
	}
	for i := 0; i < len(b); i++ {
		switch x := b[i]; {
		case x < 0x80:
		case standard == "shift_jis" && x >= 0xa1 && x <= 0xdf: // a katakana of half width
		case i+1 == len(b) || !inStandard(standard, x, b[i+1]):
			return false
		default:
			i++
		}
	}
	return true
}

func private(r rune) bool { return r >= 0xe000 && r <= 0xf8ff || r == 0xfffd } // shown by fonts of their own

// inStandard tells whether two bytes are in a row of the standard itself.
func inStandard(standard string, x, y byte) bool {
	between := func(x, lo, hi byte) bool { return lo <= x && x <= hi }
	switch standard {
	case "gb2312":
		return y >= 0xa1 && (between(x, 0xa1, 0xa9) && !(x == 0xa2 && y <= 0xb0) && !(x == 0xa6 && y >= 0xe0) && !(x == 0xa8 && between(y, 0xbb, 0xc4)) || between(x, 0xb0, 0xf7))
	case "gb18030":
		return !(x == 0xa3 && y == 0xa0)
	case "gbk":
		return between(x, 0x81, 0xfd) && y >= 0x40 && !(x == 0xa3 && y == 0xa0) && !(x == 0xa9 && between(y, 0x89, 0x95))
	case "big5":
		return x == 0xa1 || x == 0xa2 && y != 0xcc && y != 0xce || x == 0xa3 && y <= 0xbf || between(x, 0xa4, 0xc5) || x == 0xc6 && y <= 0x7e || between(x, 0xc9, 0xf8) || x == 0xf9 && y <= 0xd5
	case "shift_jis":
		return between(x, 0x81, 0x84) || between(x, 0x88, 0x9f) || between(x, 0xe0, 0xea)
	case "euc-jp":
		return x == 0x8e || y >= 0xa1 && (between(x, 0xa1, 0xa8) || between(x, 0xb0, 0xf4))
	case "euc-kr":
		return y >= 0xa1 && between(x, 0xa1, 0xfd) && x != 0xc9 && !(x == 0xa2 && y >= 0xe6)
	}
	return false
}

// portableJIS allows what RFC 1468 does, in the rows of JIS X 0208.
func portableJIS(b []byte) bool {
	wide := false
	for i := 0; i < len(b); i++ {
		switch x := b[i]; {
		case x == 0x1b:
			if i+2 >= len(b) {
				return false
			}
			switch string(b[i+1 : i+3]) {
			case "$@", "$B":
				wide = true
			case "(B", "(J":
				wide = false
			default:
				return false
			}
			i += 2
		case x == 0x0e || x == 0x0f || x >= 0x80:
			return false
		case wide && x > ' ':
			if !(x >= 0x21 && x <= 0x28 || x >= 0x30 && x <= 0x74) {
				return false
			}
			i++
		}
	}
	return true
}
