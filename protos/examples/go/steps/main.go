// Command steps makes the calls of a file of steps, and prints the end of each as a line of JSON.
//
// Usage: steps STEPS.json RUN, with the environment of main_job.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"herald/client"
	_ "herald/gen/access/v1"
	_ "herald/gen/campaign/v1"
	_ "herald/gen/chat/v1"
	_ "herald/gen/event/v1"
	_ "herald/gen/segment/v1"
)

type step struct {
	Call    string            `json:"call"`
	Request json.RawMessage   `json:"request"`
	Token   *string           `json:"token"`
	Seconds float64           `json:"seconds"`
	Until   string            `json:"until"`
	Keep    map[string]string `json:"keep"`
}

type end struct {
	Code     codes.Code        `json:"code"`
	Reason   string            `json:"reason"`
	Metadata map[string]string `json:"metadata"`
	Answers  []json.RawMessage `json:"answers"`
}

type runner struct {
	segment, campaign *grpc.ClientConn
	values            map[string]string
}

// filledIn returns the text with the value of each ${name} in its place.
func (r runner) filledIn(text string) string {
	for name, value := range r.values {
		text = strings.ReplaceAll(text, "${"+name+"}", value)
	}
	return text
}

// take makes the call of a step. It returns its answers, up to the one that the step waits for.
func (r runner) take(s step) ([]json.RawMessage, error) {
	serviceName, methodName, _ := strings.Cut(s.Call, "/")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(serviceName))
	if err != nil {
		return nil, err
	}
	method := found.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(methodName))
	conn := r.campaign
	if strings.HasPrefix(s.Call, "herald.chat.") || strings.HasPrefix(s.Call, "herald.segment.") {
		conn = r.segment
	}
	request := dynamicpb.NewMessage(method.Input())
	if err := protojson.Unmarshal([]byte(r.filledIn(string(s.Request))), request); err != nil {
		return nil, err
	}
	token := os.Getenv("HERALD_TOKEN")
	if s.Token != nil {
		token = r.filledIn(*s.Token)
	}
	limit := client.CallTime
	if s.Seconds > 0 {
		limit = time.Duration(s.Seconds * float64(time.Second))
	}
	ctx, cancel := context.WithTimeout(client.WithToken(context.Background(), token), limit)
	defer cancel()

	stream, err := conn.NewStream(
		ctx, &grpc.StreamDesc{ServerStreams: method.IsStreamingServer()}, "/"+s.Call)
	if err != nil {
		return nil, err
	}
	// io.EOF means that the call has ended already: RecvMsg says how
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	answers := []json.RawMessage{}
	for {
		message := dynamicpb.NewMessage(method.Output())
		if err := stream.RecvMsg(message); errors.Is(err, io.EOF) {
			return answers, nil
		} else if err != nil {
			return answers, err
		}
		answer, err := protojson.Marshal(message)
		if err != nil {
			return answers, err
		}
		answers = append(answers, answer)
		waited := s.Until != "" && strings.Contains(string(answer), r.filledIn(s.Until))
		if waited || !method.IsStreamingServer() {
			return answers, nil
		}
	}
}

// field returns the text at a path of an answer, such as `campaign.etag`.
func field(answer json.RawMessage, path string) string {
	var part any
	if err := json.Unmarshal(answer, &part); err != nil {
		log.Fatal(err)
	}
	for name := range strings.SplitSeq(path, ".") {
		object, _ := part.(map[string]any)
		part = object[name]
	}
	text, _ := part.(string)
	return text
}

func run(file, name string) error {
	segment, err := client.Segment()
	if err != nil {
		return err
	}
	defer segment.Close()
	campaign, err := client.Campaign()
	if err != nil {
		return err
	}
	defer campaign.Close()
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var steps []step
	if err := json.Unmarshal(content, &steps); err != nil {
		return err
	}
	r := runner{segment, campaign, map[string]string{"run": name}}
	for _, s := range steps {
		answers, err := r.take(s)
		info := client.ErrorInfo(err)
		if len(answers) > 0 {
			for name, path := range s.Keep {
				r.values[name] = field(answers[len(answers)-1], path)
			}
		}
		line, err := json.Marshal(end{status.Code(err), info.Reason, info.Metadata, answers})
		if err != nil {
			return err
		}
		fmt.Println(string(line))
	}
	return nil
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: steps STEPS.json RUN")
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}
