package herald.example;

import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.io.IOException;
import java.util.concurrent.TimeUnit;

/** How the servers are reached: addresses, CA and token come from the environment. */
record Connections(ManagedChannel segment, ManagedChannel campaign) implements AutoCloseable {
  static final long CALL_SECONDS = 30;

  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  static Connections open() throws IOException {
    return new Connections(
        channel("HERALD_SEGMENT_TARGET", "127.0.0.1:50051"),
        channel("HERALD_CAMPAIGN_TARGET", "127.0.0.1:50052"));
  }

  /** A channel to the address that the variable names, with TLS if HERALD_TLS_CA is set. */
  private static ManagedChannel channel(String variable, String address) throws IOException {
    String ca = variable("HERALD_TLS_CA", "");
    var credentials =
        ca.isEmpty()
            ? InsecureChannelCredentials.create()
            : TlsChannelCredentials.newBuilder().trustManager(new File(ca)).build();
    return Grpc.newChannelBuilder(variable(variable, address), credentials)
        // grpc-java sends no pings more often than every 10 s
        .keepAliveTime(10, TimeUnit.SECONDS)
        .keepAliveTimeout(4, TimeUnit.SECONDS)
        .build();
  }

  static String variable(String name, String unset) {
    String value = System.getenv(name);
    return value == null || value.isEmpty() ? unset : value;
  }

  /** Gives each call this token; none if it is empty. */
  static ClientInterceptor withToken(String token) {
    var headers = new Metadata();
    if (!token.isEmpty()) {
      headers.put(AUTHORIZATION, "Bearer " + token);
    }
    return MetadataUtils.newAttachHeadersInterceptor(headers);
  }

  /** Gives each unary call a deadline, unless it has its own. */
  static ClientInterceptor withDeadline() {
    return new ClientInterceptor() {
      @Override
      public <Q, A> ClientCall<Q, A> interceptCall(
          MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
        boolean open =
            options.getDeadline() != null
                || method.getType() != MethodDescriptor.MethodType.UNARY;
        return next.newCall(
            method, open ? options : options.withDeadlineAfter(CALL_SECONDS, TimeUnit.SECONDS));
      }
    };
  }

  /** The reason of an error and its metadata; an empty one for gRPC's own errors. */
  static ErrorInfo errorInfo(Throwable error) {
    var status = StatusProto.fromThrowable(error);
    if (status != null) {
      for (var detail : status.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          try {
            return detail.unpack(ErrorInfo.class);
          } catch (InvalidProtocolBufferException malformed) {
            throw new IllegalStateException(malformed);
          }
        }
      }
    }
    return ErrorInfo.getDefaultInstance();
  }

  @Override
  public void close() {
    segment.shutdownNow();
    campaign.shutdownNow();
  }
}
