// Calls an API with a token of the broker: call-api DESTINATION URL
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
)

// The protocol is generated, not kept here. This needs protoc; the plugins come with the module.
//go:generate sh -c "protoc -I ../../proto --plugin=$(go tool -n protoc-gen-go) --plugin=$(go tool -n protoc-gen-go-grpc) --go_out=. --go-grpc_out=. --go_opt=module=example,Mtokenbroker/v1/token_broker.proto=example/tokenbroker/v1 --go-grpc_opt=module=example,Mtokenbroker/v1/token_broker.proto=example/tokenbroker/v1 tokenbroker/v1/token_broker.proto"

func main() {
	broker, err := NewBroker(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	defer broker.Close()
	client := http.Client{Transport: &Transport{Broker: broker, Base: http.DefaultTransport}}
	response, err := client.Get(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(response.StatusCode, string(body))
	if response.StatusCode >= 400 {
		os.Exit(1)
	}
}
