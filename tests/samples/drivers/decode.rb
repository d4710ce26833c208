# Decodes bodies with the sample in Ruby: hexadecimal in, one per line; plain JSON out.
require_relative "../../../consumers/samples/subscriber"

def plain(value) # JSON has no NaN and no infinity
  case value
  when Hash then value.transform_values { |each| plain(each) }
  when Array then value.map { |each| plain(each) }
  when Float then value.finite? ? value : { "$float" => value.to_s }
  else value
  end
end

$stdin.each_line { |line| puts JSON.generate(plain(decode([line.strip].pack("H*")))) }
