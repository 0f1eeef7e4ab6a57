// The kubelet's side of the device plugin and pod resources APIs: the generated code of k8s.io/kubelet on today's
// gRPC for Go. Prints what it sees as one JSON object a step.
//
//	kubelet FOLDER    serves FOLDER/kubelet.sock and FOLDER/pods.sock; a line on standard input takes it to the next step
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	plugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	pods "k8s.io/kubelet/pkg/apis/podresources/v1"
)

const patience = 20 * time.Second

func say(step string, facts map[string]any) {
	facts["step"] = step
	line, err := json.Marshal(facts)
	check(err)
	fmt.Println(string(line))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

func serve(path string, register func(*grpc.Server)) *grpc.Server {
	listener, err := net.Listen("unix", path)
	check(err)
	server := grpc.NewServer()
	register(server)
	go server.Serve(listener)
	return server
}

type registry struct {
	plugin.UnimplementedRegistrationServer
	came chan *plugin.RegisterRequest
}

func (r *registry) Register(_ context.Context, request *plugin.RegisterRequest) (*plugin.Empty, error) {
	r.came <- request
	return &plugin.Empty{}, nil
}

func (r *registry) serve(folder string) *grpc.Server {
	return serve(filepath.Join(folder, "kubelet.sock"), func(server *grpc.Server) {
		plugin.RegisterRegistrationServer(server, r)
	})
}

func (r *registry) wait(step string) *plugin.RegisterRequest {
	select {
	case request := <-r.came:
		say(step, map[string]any{
			"version": request.Version, "resource": request.ResourceName,
			"preferred": request.Options.GetPreferredAllocationAvailable, "pre_start": request.Options.PreStartRequired,
		})
		return request
	case <-time.After(patience):
		check(fmt.Errorf("%s: nobody registered", step))
	}
	return nil
}

// One pod, that holds what it is told.
type holdings struct {
	pods.UnimplementedPodResourcesListerServer
	devices []string
}

func (h *holdings) List(context.Context, *pods.ListPodResourcesRequest) (*pods.ListPodResourcesResponse, error) {
	held := []*pods.ContainerDevices{{ResourceName: "nvidia.com/gpu", DeviceIds: h.devices}}
	trainer := &pods.PodResources{
		Name: "trainer", Namespace: "default", Containers: []*pods.ContainerResources{{Name: "main", Devices: held}},
	}
	return &pods.ListPodResourcesResponse{PodResources: []*pods.PodResources{trainer}}, nil
}

// As kubelets dialled until 1.32: the target is a path, and so is the authority of each request.
func dialPath(path string) (*grpc.ClientConn, error) {
	ctx, cancel := within()
	defer cancel()
	dialer := func(ctx context.Context, address string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", address)
	}
	return grpc.DialContext(ctx, path, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithBlock(),
		grpc.WithContextDialer(dialer))
}

func dialUnix(path string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func devices(list *plugin.ListAndWatchResponse) (all []string, unhealthy []string) {
	unhealthy = []string{}
	for _, device := range list.Devices {
		all = append(all, device.ID)
		if device.Health != plugin.Healthy {
			unhealthy = append(unhealthy, device.ID)
		}
	}
	return
}

func allocate(client plugin.DevicePluginClient, ids []string) (*plugin.AllocateResponse, error) {
	ctx, cancel := within()
	defer cancel()
	one := &plugin.ContainerAllocateRequest{DevicesIDs: ids}
	return client.Allocate(ctx, &plugin.AllocateRequest{ContainerRequests: []*plugin.ContainerAllocateRequest{one}})
}

func calls(name string, client plugin.DevicePluginClient, held *holdings) {
	ctx, cancel := within()
	defer cancel()
	_, err := client.GetDevicePluginOptions(ctx, &plugin.Empty{})
	check(err)
	stream, err := client.ListAndWatch(ctx, &plugin.Empty{})
	check(err)
	list, err := stream.Recv()
	check(err)
	all, unhealthy := devices(list)
	one := &plugin.ContainerPreferredAllocationRequest{AvailableDeviceIDs: all, AllocationSize: 1}
	answer, err := client.GetPreferredAllocation(ctx, &plugin.PreferredAllocationRequest{
		ContainerRequests: []*plugin.ContainerPreferredAllocationRequest{one},
	})
	check(err)
	preferred := answer.ContainerResponses[0].DeviceIDs
	given, err := allocate(client, preferred)
	check(err)
	_, refusal := allocate(client, []string{"nobody"})
	held.devices = preferred
	say(name, map[string]any{
		"devices": all, "unhealthy": unhealthy, "preferred": preferred, "envs": given.ContainerResponses[0].Envs,
		"refusal": status.Code(refusal).String(),
	})
}

func main() {
	folder, input := os.Args[1], bufio.NewReader(os.Stdin)
	next := func() {
		_, err := input.ReadString('\n')
		check(err)
	}
	kubelet, held := &registry{came: make(chan *plugin.RegisterRequest, 8)}, &holdings{}
	serve(filepath.Join(folder, "pods.sock"), func(server *grpc.Server) {
		pods.RegisterPodResourcesListerServer(server, held)
	})
	server := kubelet.serve(folder)
	say("listening", map[string]any{})
	socket := filepath.Join(folder, kubelet.wait("registered").Endpoint)

	old, err := dialPath(socket)
	check(err)
	calls("by path", plugin.NewDevicePluginClient(old), held)
	check(old.Close())
	connection, err := dialUnix(socket)
	check(err)
	client := plugin.NewDevicePluginClient(connection)
	calls("by unix", client, held)
	next()

	// what happens to a GPU reaches a stream that is open
	stream, err := client.ListAndWatch(context.Background(), &plugin.Empty{})
	check(err)
	_, err = stream.Recv()
	check(err)
	say("watching", map[string]any{})
	list, err := stream.Recv()
	check(err)
	_, unhealthy := devices(list)
	say("update", map[string]any{"unhealthy": unhealthy})
	next()

	// a kubelet that starts removes the sockets in its folder
	server.Stop()
	check(os.Remove(socket))
	os.Remove(filepath.Join(folder, "kubelet.sock"))
	kubelet.serve(folder)
	kubelet.wait("registered again")
}
