// Decodes bodies with the sample in Java: hexadecimal in, one per line; plain JSON out.
import java.io.*;
import java.util.*;
import java.util.stream.Collectors;
import org.msgpack.value.Value;

public class Decode {
    static String json(Value value) { // JSON has no NaN and no infinity
        if (value.isMapValue()) return value.asMapValue().entrySet().stream()
            .map(each -> json(each.getKey()) + ":" + json(each.getValue())).collect(Collectors.joining(",", "{", "}"));
        if (value.isArrayValue()) return value.asArrayValue().list().stream().map(Decode::json).collect(Collectors.joining(",", "[", "]"));
        if (!value.isFloatValue()) return value.toJson();
        double real = value.asFloatValue().toDouble();
        return Double.isFinite(real) ? Double.toString(real) : "{\"$float\":\"" + real + "\"}";
    }

    public static void main(String[] words) throws Exception {
        var out = new PrintStream(new FileOutputStream(FileDescriptor.out), true, "UTF-8");
        for (var lines = new Scanner(System.in); lines.hasNextLine(); ) out.println(json(Subscriber.decode(HexFormat.of().parseHex(lines.nextLine().trim()))));
    }
}
