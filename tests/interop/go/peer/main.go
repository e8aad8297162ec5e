// A node of go-libp2p-kad-dht that does what it is told, one JSON object a line, as described in
// ../../README.md.
//
// usage: peer -protocol PROTOCOL [-client] [-unchecked]
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ipfs/boxo/ipns"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Longest wait for an answer, far above what any needs.
const patience = time.Minute

// takesAll takes every value, and the newest for the best: a new one is compared as the first.
type takesAll struct{}

func (takesAll) Validate(string, []byte) error { return nil }

func (takesAll) Select(string, [][]byte) (int, error) { return 0, nil }

type request struct {
	Do, Address, Key, Value, Multihash string
}

type answer struct {
	Address string   `json:"address,omitempty"`
	Value   string   `json:"value,omitempty"`
	Peers   []string `json:"peers,omitempty"`
	Error   string   `json:"error,omitempty"`
}

type node struct {
	host host.Host
	dht  *dht.IpfsDHT
}

func start(proto string, client, unchecked bool) (*node, error) {
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay())
	if err != nil {
		return nil, err
	}
	validator := record.NamespacedValidator{
		"pk":   record.PublicKeyValidator{},
		"ipns": ipns.Validator{KeyBook: h.Peerstore()},
		"sr":   takesAll{},
	}
	if unchecked {
		validator["pk"], validator["ipns"] = takesAll{}, takesAll{}
	}
	prefix := strings.TrimSuffix(proto, "/kad/1.0.0")
	mode := dht.ModeServer
	if client {
		mode = dht.ModeClient
	}
	d, err := dht.New(h, dht.Mode(mode), dht.ProtocolPrefix(protocol.ID(prefix)),
		dht.Validator(validator), dht.BootstrapPeers())
	return &node{h, d}, err
}

func (n *node) connect(ctx context.Context, address string) error {
	info, err := peer.AddrInfoFromString(address)
	if err != nil {
		return err
	}
	if err := n.host.Connect(ctx, *info); err != nil {
		return err
	}
	for n.dht.RoutingTable().Find(info.ID) == "" {
		select {
		case <-ctx.Done():
			return errors.New("the peer does not come into the routing table")
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

func (n *node) do(ctx context.Context, r request) (answer, error) {
	key, err := hex.DecodeString(r.Key)
	if err != nil {
		return answer{}, err
	}
	value, err := hex.DecodeString(r.Value)
	if err != nil {
		return answer{}, err
	}
	hash, err := hex.DecodeString(r.Multihash)
	if err != nil {
		return answer{}, err
	}
	content := cid.NewCidV1(cid.Raw, hash)
	switch r.Do {
	case "connect":
		return answer{}, n.connect(ctx, r.Address)
	case "put":
		return answer{}, n.dht.PutValue(ctx, string(key), value)
	case "get":
		found, err := n.dht.GetValue(ctx, string(key))
		return answer{Value: hex.EncodeToString(found)}, err
	case "provide":
		return answer{}, n.dht.Provide(ctx, content, true)
	case "providers":
		found, err := n.dht.FindProviders(ctx, content)
		var peers []string
		for _, provider := range found {
			peers = append(peers, provider.ID.String())
		}
		return answer{Peers: peers}, err
	}
	return answer{}, fmt.Errorf("unknown: %s", r.Do)
}

func run() error {
	proto := flag.String("protocol", "", "protocol of the DHT, ending in /kad/1.0.0")
	client := flag.Bool("client", false, "serves nobody")
	unchecked := flag.Bool("unchecked", false, "sends and takes what is invalid, too")
	flag.Parse()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n, err := start(*proto, *client, *unchecked)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(answer{Address: fmt.Sprintf("%s/p2p/%s", n.host.Addrs()[0], n.host.ID())}); err != nil {
		return err
	}
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return nil
		}
		var r request
		if err := json.Unmarshal(line, &r); err != nil {
			return err
		}
		waiting, done := context.WithTimeout(ctx, patience)
		a, err := n.do(waiting, r)
		done()
		if err != nil {
			a.Error = err.Error()
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
