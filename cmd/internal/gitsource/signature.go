package gitsource

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"golang.org/x/crypto/ssh"
)

// signers are the keys that may sign commits.
type signers struct {
	pgp openpgp.EntityList
	ssh []ssh.PublicKey
}

const (
	maxSigners = 4 << 20 // bytes of the file
	pgpBegin   = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
	pgpEnd     = "-----END PGP PUBLIC KEY BLOCK-----"
)

// readSigners reads armored OpenPGP public keys and lines of SSH's allowed
// signers file (ssh-keygen(1), ALLOWED SIGNERS), in any mixture. Options of
// such a line other than namespaces="git" are refused: what they would narrow
// is not checked here.
func readSigners(name string) (*signers, error) {
	file, err := os.Open(filepath.Clean(name))
	if err != nil {
		return nil, fmt.Errorf("policies_signers: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(file, maxSigners+1))
	if err != nil || len(data) > maxSigners {
		return nil, fmt.Errorf("policies_signers: %s: want a readable file of at most %d bytes (%w)", name, maxSigners, err)
	}
	s, err := parseSigners(data)
	if err != nil {
		return nil, fmt.Errorf("policies_signers: %s: %w", name, err)
	}
	return s, nil
}

func parseSigners(data []byte) (*signers, error) {
	var s signers
	var block *strings.Builder
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxSigners)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		switch {
		case line == pgpBegin:
			block = &strings.Builder{}
			block.WriteString(line + "\n")
		case block != nil:
			block.WriteString(line + "\n")
			if line != pgpEnd {
				continue
			}
			keys, err := openpgp.ReadArmoredKeyRing(strings.NewReader(block.String()))
			if err != nil {
				return nil, fmt.Errorf("the OpenPGP block that ends in line %d: %w", number, err)
			}
			s.pgp, block = append(s.pgp, keys...), nil
		case line == "" || strings.HasPrefix(line, "#"):
		default:
			key, err := parseAllowedSigner(line)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", number, err)
			}
			s.ssh = append(s.ssh, key)
		}
	}
	switch {
	case lines.Err() != nil:
		return nil, lines.Err()
	case block != nil:
		return nil, errors.New("an OpenPGP block has no end")
	case len(s.pgp)+len(s.ssh) == 0:
		return nil, errors.New("holds no key; put armored OpenPGP public keys or SSH allowed signers there")
	}
	return &s, nil
}

func parseAllowedSigner(line string) (ssh.PublicKey, error) {
	_, rest, _ := strings.Cut(line, " ") // the principals: whoever holds the key may sign
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(rest))
	if err != nil {
		return nil, errors.New("want an armored OpenPGP public key, or <principals> <key type> <key> of SSH's allowed signers")
	}
	for _, o := range options {
		if o != `namespaces="git"` {
			return nil, fmt.Errorf("option %s is not supported", o)
		}
	}
	return key, nil
}

// verify refuses a commit that none of the signers signed.
func (s *signers) verify(c *commit, now time.Time) error {
	switch {
	case c.signature == "":
		return refuse("", "commit %s is not signed, and policies_signers asks for a signature", c.short())
	case strings.Contains(c.signature, "BEGIN SSH SIGNATURE"):
		if err := s.verifySSH(c); err != nil {
			return refuse("", "commit %s: its SSH signature does not hold: %v", c.short(), err)
		}
	default:
		config := &packet.Config{Time: func() time.Time { return now }}
		if _, err := openpgp.CheckArmoredDetachedSignature(s.pgp, bytes.NewReader(c.payload), strings.NewReader(c.signature), config); err != nil {
			return refuse("", "commit %s: its OpenPGP signature does not hold, or is by nobody of policies_signers: %v", c.short(), err)
		}
	}
	return nil
}

// sshSignature is the blob of OpenSSH's PROTOCOL.sshsig, after its magic.
type sshSignature struct {
	Version   uint32
	PublicKey string
	Namespace string
	Reserved  string
	Hash      string
	Signature string
}

const sshMagic = "SSHSIG"

func (s *signers) verifySSH(c *commit) error {
	block, _ := pem.Decode([]byte(c.signature + "\n"))
	if block == nil || block.Type != "SSH SIGNATURE" || !bytes.HasPrefix(block.Bytes, []byte(sshMagic)) {
		return errors.New("malformed")
	}
	var blob sshSignature
	if err := ssh.Unmarshal(block.Bytes[len(sshMagic):], &blob); err != nil {
		return errors.New("malformed")
	}
	if blob.Version != 1 || blob.Namespace != "git" {
		return errors.New("not a signature of version 1 for git")
	}
	var key ssh.PublicKey
	for _, k := range s.ssh {
		if string(k.Marshal()) == blob.PublicKey {
			key = k
		}
	}
	if key == nil {
		return errors.New("it is by nobody of policies_signers")
	}
	var digest []byte
	switch blob.Hash {
	case "sha256":
		sum := sha256.Sum256(c.payload)
		digest = sum[:]
	case "sha512":
		sum := sha512.Sum512(c.payload)
		digest = sum[:]
	default:
		return fmt.Errorf("hash %q is not accepted", blob.Hash)
	}
	var signature ssh.Signature
	if err := ssh.Unmarshal([]byte(blob.Signature), &signature); err != nil {
		return errors.New("malformed")
	}
	switch signature.Format {
	case ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384,
		ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
	default:
		return fmt.Errorf("algorithm %q is not accepted", signature.Format)
	}
	signed := append([]byte(sshMagic), ssh.Marshal(struct{ Namespace, Reserved, Hash, Digest string }{
		blob.Namespace, blob.Reserved, blob.Hash, string(digest)})...)
	return key.Verify(signed, &signature)
}
