// Kubo, the IPFS node and its command, built from its Go module: no prebuilt binary is needed.
package main

import (
	"os"

	"github.com/ipfs/kubo/cmd/ipfs/kubo"
)

func main() {
	os.Exit(kubo.Start(kubo.BuildDefaultEnv))
}
