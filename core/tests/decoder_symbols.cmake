# Fails if the decoder library defines or needs anything of the encoder, the searches or the quantisers, or throws.
#   cmake -DNM=nm -DLIBRARY=libnetpress_decoder.a -P decoder_symbols.cmake
execute_process(COMMAND ${NM} -C ${LIBRARY} OUTPUT_VARIABLE symbols RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${NM} cannot read ${LIBRARY}")
endif()
if(NOT symbols MATCHES "netpress::PayloadDecoder::weights")
  message(FATAL_ERROR "${LIBRARY} has no decoder")
endif()
string(REGEX MATCHALL "[^\n]*(Encoder|encode_|netpress::quantize|[Ss]earch|EstimatorBank|run_estimators|FrozenRate|Feedback|choose_sets|binarise<|__cxa_throw|Failure)[^\n]*"
       others "${symbols}")
list(FILTER others EXCLUDE REGEX "debinarise<")
if(others)
  list(JOIN others "\n" lines)
  message(FATAL_ERROR "the decoder library has more than a decoder:\n${lines}")
endif()
